/**
 * Which block devices a file lies on, or a device consists of, through whatever is between: partitions, device-mapper, RAID, loop devices, file
 * systems over several devices. As sysfs tells it (Documentation/ABI/testing/sysfs-block, sysfs-fs-btrfs).
 */
import { readdir, realpath, stat } from 'node:fs/promises';
import { attribute } from './attribute.js';
import { deviceNumber } from './device_number.js';
import { mountOf } from './mounts.js';
import { named } from './system_errors.js';

/**
 * "MAJOR:MINOR" of each. Empty where nothing is known: in memory, or somewhere on the network. `file` exists. `sys`: where
 * sysfs is; a test replaces it. Errors: IO_ERROR, PERMISSION_DENIED.
 */
export async function devicesUnder(file: string, sys = '/sys'): Promise<ReadonlySet<string>> {
  const stack = new DeviceStack(sys);
  await named(stack.addFile(file), file);
  return stack.found;
}

class DeviceStack {
  readonly found = new Set<string>();

  constructor(private readonly sys: string) {}

  async addFile(file: string): Promise<void> {
    const place = await realpath(file);
    const node = await stat(place, { bigint: true });
    if (node.isBlockDevice()) return this.addDevice(deviceNumber(node.rdev));
    const number = deviceNumber(node.dev);
    if (number.startsWith('0:')) await this.addMount(place);
    else await this.addDevice(number);
  }

  /** A file system whose device number is no block device's: mountinfo knows more of it. */
  private async addMount(place: string): Promise<void> {
    const mount = await mountOf(place);
    if (mount === null) return;
    if (mount.type === 'overlay') {
      const layers = mount.options.flatMap(
        (option) => /^(?:upper|lower)dir=(.*)$/.exec(option)?.[1]?.split(':') ?? [],
      );
      // Those of a container are not to be seen from inside.
      for (const layer of layers) if (await isThere(layer)) await this.addFile(layer);
      return;
    }
    const source = await stat(mount.source, { bigint: true }).catch(() => null);
    if (source?.isBlockDevice() !== true) return;
    const number = deviceNumber(source.rdev);
    await this.addDevice(number);
    if (mount.type === 'btrfs') await this.addBtrfs(number);
  }

  /** All devices of the file system that has the device `number`. */
  private async addBtrfs(number: string): Promise<void> {
    const all = `${this.sys}/fs/btrfs`;
    for (const fileSystem of await namesIn(all)) {
      const devices = `${all}/${fileSystem}/devices`;
      const numbers = await Promise.all(
        (await namesIn(devices)).map((name) => attribute(`${devices}/${name}/dev`)),
      );
      if (numbers.includes(number))
        for (const other of numbers) if (other !== null) await this.addDevice(other);
    }
  }

  private async addDevice(number: string): Promise<void> {
    if (this.found.has(number)) return;
    this.found.add(number);
    const link = `${this.sys}/dev/block/${number}`;
    if (!(await isThere(link))) return;
    const device = await realpath(link);
    if (await isThere(`${device}/partition`)) await this.addNumber(`${device}/../dev`);
    for (const name of await namesIn(`${device}/slaves`))
      await this.addNumber(`${device}/slaves/${name}/dev`);
    const backing = await attribute(`${device}/loop/backing_file`);
    if (backing !== null && (await isThere(backing))) await this.addFile(backing);
  }

  private async addNumber(file: string): Promise<void> {
    const number = await attribute(file);
    if (number !== null) await this.addDevice(number);
  }
}

const isThere = (file: string): Promise<boolean> =>
  stat(file).then(
    () => true,
    () => false,
  );

const namesIn = (directory: string): Promise<string[]> => readdir(directory).catch(() => []);
