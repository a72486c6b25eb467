/** Volumes as loop devices, served by an agent that is a process of its own and gets killed. Needs root. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { agentControlService, type GroupStatus } from '../../proto/control.js';
import { EXIT } from '../../proto/errors.js';
import { RpcClient } from '../../service/rpc.js';
import { isRoot, skipUnless } from '../prerequisite.js';
import { MemoryReceiver } from './memory_receiver.js';
import { ended } from '../scenario/command.js';
import { Scratch } from '../scenario/scratch.js';

const CLI = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const MIB = 1 << 20;
const run = promisify(execFile);
const skip = skipUnless(
  isRoot && existsSync('/dev/fuse') && existsSync('/dev/loop-control'),
  'root, /dev/fuse and loop devices',
);

class AgentProcess {
  private constructor(
    private readonly child: ChildProcess,
    private readonly control: string,
    private readonly output: string[],
  ) {}

  static start(scratch: Scratch, config: string, control: string): AgentProcess {
    const child = spawn(process.execPath, [CLI, 'agent', 'run', '--config', config]);
    const output: string[] = [];
    child.stderr.on('data', (chunk: Buffer) => output.push(chunk.toString()));
    // In order, so that it takes its device with it.
    scratch.defer('agent', () => {
      child.kill('SIGTERM');
      return ended(child, 30);
    });
    return new AgentProcess(child, control, output);
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
  get log(): string {
    return this.output.join('');
  }
  async exited(): Promise<number | null> {
    while (this.child.exitCode === null && this.child.signalCode === null) await sleep(20);
    return this.child.exitCode;
  }
  async settled(): Promise<GroupStatus> {
    for (;;) {
      if (this.child.exitCode !== null) throw new Error(`it ended:\n${this.log}`);
      const status = await this.status().catch(() => null);
      if (status?.state === 'protected' && status.durableLsn === status.capturedLsn) return status;
      await sleep(50);
    }
  }
  private async status(): Promise<GroupStatus | null> {
    const client = await RpcClient.openControl(this.control);
    try {
      const status = await client.callUnary(agentControlService.status, {}, { timeoutMs: 5_000 });
      return status.groups[0] ?? null;
    } finally {
      client.close();
    }
  }
}

t.test('a loop device, killed agents and what they leave behind', { skip }, async (t) => {
  const scratch = await Scratch.create('loop');
  t.teardown(() => scratch.clean());
  const { directory } = scratch;
  const backing = path.join(directory, 'data.img');
  writeFileSync(backing, Buffer.concat([randomBytes(4 * MIB), Buffer.alloc(4 * MIB)]));
  const receiver = new MemoryReceiver(path.join(directory, 'receiver'));
  const port = await receiver.listen(0);
  scratch.defer('receiver', () => receiver.close());
  const group = `looptest-${process.pid}`;
  const control = path.join(directory, 'run', 'agent.sock');
  const config = path.join(directory, 'agent.toml');
  const link = `/dev/afterimage/${group}/data`;
  writeFileSync(
    config,
    `receiver_plain = "127.0.0.1:${port}"
state_dir = "${directory}/state"
run_dir = "${directory}/run"
[[group]]
name = "${group}"
ring_bytes = "16MiB"
[[group.volume]]
name = "data"
backing = "${backing}"
`,
  );
  const write = async (megabyte: number): Promise<void> => {
    await run('dd', [
      'if=/dev/urandom',
      `of=${link}`,
      'bs=1M',
      'count=1',
      `seek=${megabyte}`,
      'oflag=direct',
    ]);
  };
  const assertEqual = async (message: string): Promise<void> => {
    const replica = await receiver.contentAt(0, receiver.durableLsn);
    t.ok(replica.equals(readFileSync(backing)), message);
  };

  const first = AgentProcess.start(scratch, config, control);
  const { generation } = await first.settled();
  t.match(readlinkSync(link), /^\/dev\/loop\d+$/);
  await write(1);
  await first.settled();
  await assertEqual('what was written to the device is in the journal');
  first.signal('SIGKILL');
  await first.exited();

  const held = await open(link, 'r');
  scratch.defer('opener', () => held.close());
  const refused = AgentProcess.start(scratch, config, control);
  t.equal(await refused.exited(), EXIT.busy, 'a device of the killed agent that is in use is not taken away');
  t.match(refused.log, /LOOP_BUSY/);
  await held.close();

  const second = AgentProcess.start(scratch, config, control);
  const after = await second.settled();
  t.ok(after.generation > generation, 'after a kill the stream is a new one');
  t.ok((receiver.begun.at(-1)?.firstLsn ?? 0n) > 1n << 24n, 'above every LSN that may have been used');
  await write(5);
  await second.settled();
  await assertEqual('and so is what was written after the restart');

  const user = await open(link, 'r');
  scratch.defer('user', () => user.close());
  second.signal('SIGTERM');
  while (!second.log.includes('the volume is in use')) await sleep(50);
  t.ok(existsSync(link), 'production first: a volume in use stays');
  await user.close();
  t.equal(await second.exited(), 0);
  t.notOk(existsSync(link));
  const { stdout } = await run('losetup', ['-a']);
  t.notMatch(stdout, directory, 'no loop device is left');
  t.notMatch(readFileSync('/proc/self/mountinfo', 'utf8'), directory, 'no mount is left');

  // The mount below it unmounted by hand, lazily: the file had no path any more, and the stop took the device away.
  const hidden = AgentProcess.start(scratch, config, control);
  await hidden.settled();
  const hiddenDevice = readlinkSync(link);
  await run('umount', ['-l', path.join(directory, 'run', 'fuse', group, 'data')]);
  const unaware = await open(link, 'r');
  scratch.defer('unaware', () => unaware.close());
  hidden.signal('SIGTERM');
  while (!hidden.log.includes('the volume is in use')) {
    if (!existsSync(link)) break;
    await sleep(50);
  }
  t.ok(existsSync(link), 'production first, also then');
  t.equal((await unaware.read(Buffer.alloc(4096), 0, 4096, 0)).bytesRead, 4096, 'its user goes on');
  await unaware.close();
  t.equal(await hidden.exited(), 0);
  t.notMatch((await run('losetup', ['-a'])).stdout, `${hiddenDevice}:`, 'and nothing is left of it either');

  // Detached by hand, and the kernel gave its number to somebody else: the agent's end took that device away.
  const third = AgentProcess.start(scratch, config, control);
  await third.settled();
  const device = readlinkSync(link);
  await run('losetup', ['-d', device]);
  const stranger = path.join(directory, 'stranger.img');
  writeFileSync(stranger, Buffer.alloc(MIB));
  await run('losetup', [device, stranger]);
  scratch.defer('stranger', () => run('losetup', ['-d', device]));
  third.signal('SIGTERM');
  t.equal(await third.exited(), 0);
  t.match((await run('losetup', ['-a'])).stdout, stranger, 'a device of somebody else stays');
});
