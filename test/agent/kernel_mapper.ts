/**
 * As much of the kernel's device mapper as mapped_device.ts relies on, seen in Linux 6.1 and 6.12 (test/vm has the real one):
 * exclusive claims, tables that become active at a resume, multipath that nothing else replaces. `dmsetup` can die before any
 * of its steps.
 */
import { AfterimageError, toAfterimageError } from '../../proto/errors.js';
import type { Dmsetup } from '../../agent/device_mapper.js';

interface Device {
  minor: number;
  uuid: string;
  table: string[];
  inactive: string[] | null;
  isSuspended: boolean;
}

export class KernelMapper {
  readonly devices = new Map<string, Device>();
  /** Opened exclusively by a process, by name. */
  readonly held = new Set<string>();
  /** Steps that are still carried out; then each one dies. */
  stepsLeft = Infinity;
  /** Called after each step. */
  onStep: () => void = () => undefined;
  private minors = 0;

  /** Of steps that change something. */
  steps = 0;

  readonly dmsetup: Dmsetup = (args, table = '') => {
    const [verb = '', ...rest] = args;
    const names = rest.filter((word) => !word.startsWith('-'));
    const isLook = ['info', 'table', 'status'].includes(verb);
    if (!isLook) {
      if (this.stepsLeft === 0) return Promise.reject(new Error('killed'));
      this.stepsLeft -= 1;
      this.steps += 1;
    }
    try {
      const output = this.carryOut(verb, names, args, table);
      if (!isLook) this.onStep();
      return Promise.resolve(output);
    } catch (thrown) {
      return Promise.reject(toAfterimageError(thrown));
    }
  };

  add(name: string, table: string[], uuid = ''): void {
    this.minors += 1;
    this.devices.set(name, { minor: this.minors, uuid, table, inactive: null, isSuspended: false });
  }

  get(name: string): Device {
    const device = this.devices.get(name);
    if (device === undefined)
      throw new AfterimageError('MAPPER_FAILED', `${name}: No such device or address`);
    return device;
  }

  /** Whether a table, active or not, has a path to it. */
  isClaimed(name: string): boolean {
    const number = `254:${this.devices.get(name)?.minor}`;
    return [...this.devices.values()].some(({ table, inactive }) =>
      [...table, ...(inactive ?? [])].some((line) => line.includes(` ${number} `)),
    );
  }

  private carryOut(verb: string, names: string[], args: readonly string[], table: string): string {
    const [name = '', other = ''] = names;
    const lines = table.split('\n').filter((line) => line !== '');
    switch (verb) {
      case 'info':
        return [...this.devices]
          .map(([key, { minor, uuid, isSuspended }]) =>
            ['254', minor, isSuspended ? 'Suspended' : 'Active', key, uuid].join('/'),
          )
          .join('\n');
      case 'table':
        return this.get(name).table.join('\n');
      case 'status':
        return `0 8 multipath 2 0 0 0 1 1 A 0 1 0 ${/(\d+:\d+) 1$/.exec(this.get(name).table[0] ?? '')?.[1]} A 0 `;
      case 'create':
        if (this.devices.has(name)) throw new AfterimageError('VOLUME_BUSY', `${name} is there`);
        this.add(name, lines, args[args.indexOf('--uuid') + 1]);
        return '';
      case 'remove':
        this.get(name);
        if (this.held.has(name) || this.isClaimed(name)) throw new AfterimageError('VOLUME_BUSY', name);
        this.devices.delete(name);
        return '';
      case 'rename':
        if (this.devices.has(other)) throw new AfterimageError('MAPPER_FAILED', `${other} is there`);
        this.devices.set(other, this.get(name));
        this.devices.delete(name);
        return '';
      case 'load':
        this.get(name).inactive = lines.map((line) => this.loaded(name, line));
        return '';
      case 'clear':
        this.get(name).inactive = null;
        return '';
      case 'suspend':
        this.get(name).isSuspended = true;
        return '';
      case 'resume': {
        const device = this.get(name);
        device.table = device.inactive ?? device.table;
        device.inactive = null;
        device.isSuspended = false;
        return '';
      }
      default:
        throw new Error(`dmsetup ${verb}`);
    }
  }

  private loaded(name: string, line: string): string {
    const wasMultipath = this.get(name).table.some((one) => one.includes('multipath'));
    if (!line.includes('multipath')) {
      if (wasMultipath) throw new AfterimageError('MAPPER_FAILED', 'immutable');
      return line;
    }
    // The kernel tells of numbers, and of a feature that it added.
    const told = line.replace('3 queue_if_no_path', '4 queue_if_no_path retain_attached_hw_handler');
    const path = /\/dev\/(\S+) 1$/.exec(told)?.[1];
    if (path === undefined) return `${told} `;
    const target = path.replace('mapper/', '');
    if (!path.startsWith('mapper/')) return told.replace(`/dev/${path} 1`, `43:${path.replace('nbd', '')} 1`);
    if (this.held.has(target)) throw new AfterimageError('VOLUME_BUSY', `${target} is held`);
    return told.replace(`/dev/${path} 1`, `254:${this.get(target).minor} 1`);
  }
}
