/**
 * A life of a protected host, in three boots, told to the console: "host: ok WHAT" or "host: FAILED WHAT: WHY". It runs with the
 * package's own runtime, and needs nothing but that.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const HERE = '/opt/host-test';
const MEMORY = `${HERE}/memory.json`;
const MOUNT = '/srv/data';
const DEVICE = '/dev/afterimage/shop/data';
const FSTAB = `${DEVICE} ${MOUNT} ext4 _netdev,x-systemd.requires=afterimage-devices.target 0 2`;
const PATIENCE_S = 240;
/** The first megabyte and thirty-two blocks, and what lies beside them. */
const SAMPLES_BYTES_MAX = 8 << 20;
const MOUNT_BYTES_MAX = 16 << 10;

interface Memory {
  boot: number;
}
interface Ended {
  status: number | null;
  output: string;
}
interface Status {
  agent: {
    version: string;
    groups: {
      name: string;
      state: string;
      detail: string;
      capturedLsn: string;
      durableLsn: string;
      volumes: { resyncComparedBytes: number; resyncDifferingBytes: number }[];
    }[];
  } | null;
  receiver: { version: string } | null;
}

function run(program: string, ...args: string[]): Ended {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (error !== undefined) throw error;
  return { status, output: `${stdout}${stderr}`.trim() };
}
function must(program: string, ...args: string[]): string {
  const { status, output } = run(program, ...args);
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${status} ${output}`);
  return output;
}
async function step(what: string, work: () => Promise<void> | void): Promise<void> {
  const begin = Date.now();
  try {
    await work();
    console.log(`host: ok ${what} (${Math.round((Date.now() - begin) / 1000)} s)`);
  } catch (thrown) {
    console.log(`host: FAILED ${what}: ${String(thrown).replaceAll('\n', ' | ')}`);
    console.log(
      run('journalctl', '-b', '--no-pager', '-n', '40', '-u', 'afterimage-agent', '-u', 'afterimage-receiver')
        .output,
    );
    throw thrown;
  }
}
async function until(what: string, is: () => boolean): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_S * 1000; !is(); await sleep(500))
    if (Date.now() > deadline) throw new Error(`not ${what}`);
}
function same(actual: unknown, expected: unknown, what: string): void {
  if (actual !== expected) throw new Error(`${what}: ${String(actual)}, not ${String(expected)}`);
}

const status = (): Status =>
  JSON.parse(run('afterimage', 'status', '--json').output.split('\n')[0] ?? '{}') as Status;
const shop = () => status().agent?.groups.find(({ name }) => name === 'shop');
const isSettled = (): boolean => {
  const group = shop();
  return group?.state === 'protected' && group.durableLsn === group.capturedLsn;
};
const mainPid = (): string => must('systemctl', 'show', '-P', 'MainPID', 'afterimage-agent');
const isActive = (unit: string): string => run('systemctl', 'is-active', unit).output;
const isMounted = (): boolean => run('findmnt', '-n', MOUNT).status === 0;
const ioErrors = (): string =>
  run('sh', '-c', "dmesg | grep -iE 'i/o error|aborting journal|remounting filesystem' || true").output;

/** Writes and syncs without a pause, and ends with 0 when it is told to and nothing failed. */
class Load {
  private readonly child: ChildProcess;
  private readonly ended: Promise<number | null>;

  constructor() {
    const script = `
      const fs = require('fs');
      let over = false; let count = 0;
      process.on('SIGTERM', () => { over = true; });
      const file = fs.openSync('${MOUNT}/load', 'w');
      const bytes = Buffer.alloc(8192, 1);
      const turn = () => {
        for (let at = 0; at < 4; at += 1) { bytes.writeUInt32LE(count, 0); fs.writeSync(file, bytes, 0, 8192, (count++ % 512) * 8192); }
        fs.fsyncSync(file);
        if (over) { console.log('load: ' + count + ' writes'); process.exit(0); }
        setImmediate(turn);
      };
      turn();`;
    this.child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'inherit', 'inherit'] });
    this.ended = new Promise((resolve) => this.child.once('exit', resolve));
  }
  get isRunning(): boolean {
    return this.child.exitCode === null;
  }
  async stop(): Promise<void> {
    this.child.kill('SIGTERM');
    same(await this.ended, 0, 'the load ended with');
  }
}

/**
 * The stop before this boot was a clean one; what nobody can know after a boot (whether another system has written to the disk) was
 * answered by samples.
 */
function nothingInDoubt(): void {
  const before = run('journalctl', '-b', '-1', '--no-pager', '-u', 'afterimage-agent', '-o', 'cat').output;
  const last =
    before
      .split('\n')
      .filter((line) => line.includes('"group":"shop"'))
      .at(-1) ?? '';
  if (!last.includes('"msg":"stopped"')) throw new Error(`the last word was ${last}`);
  const [volume] = shop()?.volumes ?? [];
  // The mount has written its superblock before that was looked at.
  if ((volume?.resyncDifferingBytes ?? Infinity) > MOUNT_BYTES_MAX)
    throw new Error(`${volume?.resyncDifferingBytes} bytes differed`);
  if ((volume?.resyncComparedBytes ?? Infinity) > SAMPLES_BYTES_MAX)
    throw new Error(`${volume?.resyncComparedBytes} bytes were compared`);
}

async function install(): Promise<void> {
  // So that what was said at a shutdown is known after it.
  mkdirSync('/var/log/journal', { recursive: true });
  must('systemctl', 'restart', 'systemd-journald');
  await step('the installation starts nothing', () => {
    for (const unit of ['afterimage-agent', 'afterimage-receiver']) {
      same(isActive(unit), 'inactive', unit);
      same(run('systemctl', 'is-enabled', unit).output, 'disabled', unit);
    }
  });
  await step('systemd-analyze verify has nothing to say', () => {
    const names = ['agent.service', 'receiver.service', 'devices.target'];
    const units = names.map((name) => `/usr/lib/systemd/system/afterimage-${name}`);
    same(must('systemd-analyze', 'verify', '--man=no', ...units), '', 'verify');
    for (const name of ['agent', 'receiver']) {
      const { output } = run('systemd-analyze', 'security', '--no-pager', `afterimage-${name}.service`);
      console.log(`host: note ${output.split('\n').at(-1) ?? ''}`);
    }
  });
  await step('an agent that is not configured does not start', async () => {
    must('systemctl', 'start', '--no-block', 'afterimage-agent');
    await until('refused', () =>
      /CONFIG_INVALID/.test(run('journalctl', '-b', '-u', 'afterimage-agent').output),
    );
    if (isActive('afterimage-agent') === 'active') throw new Error('it is active');
    must('systemctl', 'stop', 'afterimage-agent');
  });
  await step('a receiver, and this host joins it', () => {
    must('afterimage', 'receiver', 'init');
    // Both on one machine, as OPERATIONS.md has it: at a shutdown the agent still has something to send.
    must('sh', '-c', 'mkdir -p /etc/systemd/system/afterimage-receiver.service.d');
    must(
      'sh',
      '-c',
      String.raw`printf '[Unit]\nBefore=afterimage-agent.service\n' > /etc/systemd/system/afterimage-receiver.service.d/both.conf`,
    );
    must('systemctl', 'daemon-reload');
    must('systemctl', 'enable', '--now', 'afterimage-receiver');
    const create = 'afterimage receiver token create --host db1 2>/dev/null';
    must('sh', '-c', `${create} | afterimage agent join 127.0.0.1:7443 -`);
  });
  await step('protection starts', async () => {
    const config = readFileSync('/etc/afterimage/agent.toml', 'utf8');
    writeFileSync(
      '/etc/afterimage/agent.toml',
      `${config}\n[[group]]\nname = "shop"\nunmark_after = "1s"\n[[group.volume]]\nname = "data"\nbacking = "/dev/vdb"\n`,
    );
    must('systemctl', 'enable', '--now', 'afterimage-agent');
    await until('a device of systemd', () => isActive('dev-afterimage-shop-data.device') === 'active');
  });
  await step('a file system in fstab', async () => {
    must('mkfs.ext4', '-q', DEVICE);
    mkdirSync(MOUNT, { recursive: true });
    writeFileSync('/etc/fstab', `${FSTAB}\n`, { flag: 'a' });
    must('systemctl', 'daemon-reload');
    must('mount', MOUNT);
    writeFileSync(`${MOUNT}/hello`, 'precious\n');
    must('sync', '-f', MOUNT);
    await until('protected', isSettled);
  });
}

async function live(): Promise<void> {
  await step('after a boot it is mounted, and replicates', async () => {
    await until('mounted', isMounted);
    same(readFileSync(`${MOUNT}/hello`, 'utf8'), 'precious\n', 'hello');
    await until('protected', isSettled);
  });
  await step('the shutdown left nothing in doubt', nothingInDoubt);
  const load = new Load();
  const replaced = (what: string, before: string): Promise<void> =>
    until(what, () => mainPid() !== '0' && mainPid() !== before && status().agent !== null);
  for (const time of ['once', 'twice']) {
    await step(`the agent is killed, ${time}`, async () => {
      const before = mainPid();
      must('systemctl', 'kill', '--kill-who=main', '--signal=SIGKILL', 'afterimage-agent');
      await replaced('another agent', before);
      if (!load.isRunning) throw new Error('the load has failed');
    });
  }
  await step('systemctl restart', async () => {
    const before = mainPid();
    must('systemctl', 'restart', 'afterimage-agent');
    await replaced('another agent', before);
    if (!load.isRunning) throw new Error('the load has failed');
  });
  // Where nobody has a file open it would have been unmounted, and whoever writes would have written below it.
  await step('nobody tried to unmount it', () => {
    const { output } = run('journalctl', '-b', '--no-pager', '-o', 'cat', '-u', 'srv-data.mount');
    if (/unmount/i.test(output)) throw new Error(output);
  });
  await step('systemctl reload takes another group', async () => {
    const config = readFileSync('/etc/afterimage/agent.toml', 'utf8');
    must('truncate', '-s', '16M', '/var/other.img');
    writeFileSync(
      '/etc/afterimage/agent.toml',
      `${config}[[group]]\nname = "mail"\n[[group.volume]]\nname = "spool"\nbacking = "/var/other.img"\nattach = "socket"\n`,
    );
    const before = mainPid();
    must('systemctl', 'reload', 'afterimage-agent');
    await until(
      'there',
      () =>
        status().agent?.groups.some(({ name, state }) => name === 'mail' && state === 'protected') ?? false,
    );
    same(mainPid(), before, 'the process');
  });
  await step('it hands over when it is told to', async () => {
    const before = mainPid();
    must('sh', '-c', 'systemctl kill --kill-whom=main -s SIGUSR2 afterimage-agent');
    await replaced('another agent', before);
    if (!load.isRunning) throw new Error('the load has failed');
  });
  await step('what an administrator looks at', () => {
    must('systemctl', 'reload', 'afterimage-receiver');
    must('systemctl', 'status', '--no-pager', 'afterimage-agent');
    must('journalctl', '--no-pager', '-u', 'afterimage-agent');
    must('journalctl', '--no-pager', '-u', 'afterimage-receiver');
  });
  await step('the package is upgraded', async () => {
    const before = mainPid();
    const version = status().agent?.version;
    // A guest's syncs of a thousand files would take minutes.
    must('dpkg', '--force-unsafe-io', '-i', `${HERE}/newer.deb`);
    await replaced('another agent', before);
    await until(
      'newer',
      () => status().agent?.version !== version && status().receiver?.version === status().agent?.version,
    );
    if (!load.isRunning) throw new Error('the load has failed');
  });
  await step('removal is refused while it is mounted', () => {
    const { status: refused, output } = run('dpkg', '-r', 'afterimage');
    if (refused === 0) throw new Error('it was removed');
    if (!output.includes('in use')) throw new Error(output);
    same(isActive('afterimage-agent'), 'active', 'the agent');
  });
  await step('a stop waits while it is used, and production goes on', async () => {
    must('systemctl', 'stop', '--no-block', 'afterimage-agent');
    await sleep(10_000);
    if (!isMounted()) throw new Error('it was unmounted');
    if (!load.isRunning) throw new Error('the load has failed');
    await load.stop();
    run('umount', MOUNT);
    await until('stopped', () => isActive('afterimage-agent') === 'inactive');
  });
  await step('the mount starts what it needs', async () => {
    must('systemctl', 'start', 'srv-data.mount');
    same(isActive('afterimage-agent'), 'active', 'the agent');
    same(readFileSync(`${MOUNT}/hello`, 'utf8'), 'precious\n', 'hello');
    await until('protected', isSettled);
  });
  await step('no I/O error was seen', () => same(ioErrors(), '', 'the kernel says'));
}

async function leave(): Promise<void> {
  await step('the next shutdown left nothing in doubt either', async () => {
    await until('mounted', isMounted);
    await until('protected', isSettled);
    nothingInDoubt();
    same(ioErrors(), '', 'the kernel says');
  });
  await step('what was written is at the receiver', async () => {
    must('sync', '-f', MOUNT);
    await until('durable', isSettled);
    must('afterimage', 'recover', 'shop/data', '--at', 'latest', '--to', '/var/recovered.img');
    must('mkdir', '-p', '/mnt/recovered');
    must('mount', '-o', 'loop', '/var/recovered.img', '/mnt/recovered');
    same(readFileSync('/mnt/recovered/hello', 'utf8'), 'precious\n', 'hello');
    must('umount', '/mnt/recovered');
    same(
      must('sh', '-c', 'afterimage audit --verify | head -n 1 | grep -c "as they were written"'),
      '1',
      'the audit log',
    );
  });
  await step('unmounted it can be removed, and no history goes with it', () => {
    must('umount', MOUNT);
    must('dpkg', '-r', 'afterimage');
    for (const gone of ['/usr/bin/afterimage', '/usr/lib/systemd/system/afterimage-agent.service'])
      if (existsSync(gone)) throw new Error(`${gone} is left`);
    for (const left of ['/var/lib/afterimage/store/store.json', '/etc/afterimage/agent.toml'])
      if (!existsSync(left)) throw new Error(`${left} is gone`);
    if (existsSync(DEVICE)) throw new Error(`${DEVICE} leads to ${readlinkSync(DEVICE)}`);
  });
}

const memory: Memory = existsSync(MEMORY)
  ? (JSON.parse(readFileSync(MEMORY, 'utf8')) as Memory)
  : { boot: 0 };
const boots = [install, live, leave];
const boot = boots[memory.boot];
console.log(`host: boot ${memory.boot + 1} of ${boots.length}`);
try {
  await boot?.();
  const isLast = memory.boot === boots.length - 1;
  writeFileSync(MEMORY, JSON.stringify({ boot: memory.boot + 1 }));
  console.log(isLast ? 'host: done' : 'host: the machine is switched off');
  must('systemctl', 'poweroff', '--no-block');
} catch {
  process.exitCode = 1;
}
