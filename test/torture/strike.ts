/**
 * The faults of a round. Each strikes, waits until it has been seen to, and is over when its promise resolves: with true
 * when it really struck.
 */
import { readFileSync } from 'node:fs';
import { readFile, statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultDirectory, FaultRule } from '../fault/fault_directory.js';
import { command } from '../scenario/command.js';
import { Oracle } from '../scenario/oracle.js';
import type { Database } from './database.js';
import { differing } from './equality.js';
import type { Load } from './load.js';
import type { FaultKind } from './plan.js';
import { losePower } from './power.js';
import { measuredResync, type Resync } from './resync.js';
import { DATABASE, deviceOf, STORE_BYTES, type World } from './world.js';

const SEEN_MS_MAX = 4_000;
/** An agent that starts comes to its state directory by then. */
const STRUCK_MS_MAX = 8_000;
/** Longer than an agent waits for the program that it asks before it hands over. */
const SUCCESSOR_MS_MAX = 130_000;
const SETTLED_SECONDS_MAX = 60;
const TRACKING_SECONDS_MAX = 30;
const POLL_MS = 10;

/** CLOCK_REALTIME, as the writers have it. */
export const nowNs = (): bigint => BigInt(Date.now()) * 1_000_000n;

export class Striker {
  /** Of the resyncs that could be measured. */
  readonly resyncs: Resync[] = [];
  /** Hosts that were lost when nothing was marked. */
  rested = 0;
  /** When the agent was killed, and another one follows it. CLOCK_REALTIME, ns. */
  readonly deathsNs: bigint[] = [];
  /** Agents that were to end so that others follow them. */
  endings = 0;

  constructor(
    private readonly world: World,
    private readonly load: Load,
    private readonly database: Database,
    private readonly random: () => number,
    private readonly report: (promise: string, text: string) => void,
  ) {}

  strike(kind: FaultKind): Promise<boolean> {
    const { world } = this;
    const { site, proxy } = world;
    switch (kind) {
      case 'agent-killed':
        return this.killAgent();
      case 'agent-killed-writing':
        return this.killAgentWriting(world.backingFaults);
      case 'receiver-killed':
        return this.receiverAway(() => this.killReceiver());
      case 'receiver-restarted':
        return this.receiverAway(() => this.stopReceiver());
      case 'both-killed':
        return this.receiverAway(async () => {
          const [, hasStruck] = await Promise.all([this.endReceiver(), this.killAgent()]);
          return hasStruck;
        });
      case 'agent-replaced':
        return this.endAgent('SIGUSR2');
      case 'agent-stopped':
        return this.freeze(site.agent.supervisedPid(), this.between(100, 700));
      case 'receiver-stopped':
        return this.freeze(site.receiver.pid, this.between(200, 1200));
      case 'link-cut':
        return this.cut();
      case 'link-delayed':
        return this.heldUp(() => (proxy.delayMs = this.between(20, 300)));
      case 'link-throttled':
        return this.heldUp(() => (proxy.bytesPerSecond = this.between(512, 6000) * 1024));
      case 'link-stalled':
        return this.heldUp(() => (proxy.isStalled = true));
      case 'ring-full':
        return this.fillRing();
      case 'host-lost':
        return this.loseHost();
      case 'store-full':
        return this.fillStore(world.storeDisk ?? '');
      case 'store-no-space':
        return this.noSpace(world.storeFaults, this.between(300, 1500));
      case 'store-write-fails':
        return this.fail(world.storeFaults, this.rule('write', '*', { do: 'fail', errno: 'EIO' }));
      case 'store-write-torn':
        return this.fail(
          world.storeFaults,
          this.rule('write', '*.seg', { do: 'torn', errno: 'EIO', bytes: 512 }),
        );
      case 'store-write-short':
        return this.fail(world.storeFaults, this.rule('write', '*.seg', { do: 'short', bytes: 4096 }));
      case 'store-sync-fails':
        return this.fail(world.storeFaults, this.rule('sync', '*', { do: 'fail', errno: 'EIO' }));
      case 'state-full':
        return this.noSpace(world.stateFaults, this.between(300, 1000), () => this.killAgent());
      case 'state-write-fails':
        // By turns what was written cannot be synced.
        return this.fail(
          world.stateFaults,
          {
            op: this.random() < 0.5 ? 'write' : 'sync',
            ...{ path: '*', do: 'fail', errno: 'EIO', times: this.between(1, 3) },
          },
          () => this.endAgent('SIGUSR2'),
        );
      case 'backing-write-fails':
        // By turns the disk has the first sector of what failed.
        return this.fail(
          world.backingFaults,
          this.rule('write', '*.img', {
            ...(this.random() < 0.5 ? { do: 'fail' as const } : { do: 'torn' as const, bytes: 512 }),
            errno: 'EIO',
          }),
        );
      case 'backing-sync-fails':
        // After one every other flush fails by itself, until the device is opened anew.
        return this.fail(world.backingFaults, {
          ...this.rule('sync', '*.img', { do: 'fail', errno: 'EIO' }),
          times: 1,
        });
    }
  }

  /** A whole number of [from, to). */
  private between(from: number, to: number): number {
    return from + Math.floor(this.random() * (to - from));
  }

  private async seen(is: () => Promise<boolean> | boolean, msMax = SEEN_MS_MAX): Promise<boolean> {
    for (const deadline = Date.now() + msMax; Date.now() < deadline; await sleep(POLL_MS))
      if (await is()) return true;
    return false;
  }

  /** Once, or again while its successor takes over. */
  private async killAgent(): Promise<boolean> {
    const hasStruck = await this.endAgent('SIGKILL');
    if (this.random() >= 0.3) return hasStruck;
    await sleep(this.between(0, 400));
    return (await this.endAgent('SIGKILL')) && hasStruck;
  }

  /**
   * While the backing takes long over each write, so that it is in the middle of some. Nobody writes again what a client
   * gave up then: the backing may have it, and the replica has to have the same.
   */
  private async killAgentWriting(directory: FaultDirectory | null): Promise<boolean> {
    const { agent } = this.world.site;
    const pid = agent.supervisedPid();
    if (directory === null || pid === null) return false;
    const us = this.between(2, 8) * 1000;
    await directory.add({ op: 'write', path: '*.img', do: 'delay', us });
    await sleep(this.between(50, 200));
    this.send(pid, 'SIGKILL');
    const stopped = this.load.stop();
    stopped.catch(() => undefined); // seen where it is waited for
    const hasSuccessor = await this.seen(
      () => ![null, pid].includes(agent.supervisedPid()),
      SUCCESSOR_MS_MAX,
    );
    const hasStruck = await this.over(directory);
    await stopped;
    const group = await this.world.control.settled(SETTLED_SECONDS_MAX);
    for (const name of await differing(this.world, this.world.stamped))
      this.report(
        'R2',
        `${name}: after a death in the middle of writes the latest point is not what the backing holds`,
      );
    this.load.start(group);
    return hasSuccessor && hasStruck;
  }

  /** One that hands over ends as if it were killed. */
  private send(pid: number, signal: 'SIGKILL' | 'SIGUSR2'): void {
    process.kill(pid, signal);
    this.endings += 1;
  }

  private async endAgent(signal: 'SIGKILL' | 'SIGUSR2'): Promise<boolean> {
    const { agent } = this.world.site;
    const pid = agent.supervisedPid();
    if (pid === null) return false;
    this.send(pid, signal);
    let diedNs: bigint | null = null;
    const hasSuccessor = await this.seen(() => {
      const now = agent.supervisedPid();
      if (now !== pid) diedNs ??= nowNs();
      return now !== null && now !== pid;
    }, SUCCESSOR_MS_MAX);
    if (diedNs !== null) this.deathsNs.push(diedNs);
    return hasSuccessor;
  }

  /** By turns its host loses power, where its store is recorded: what it acknowledged is there all the same. */
  private async killReceiver(): Promise<boolean> {
    const { storeFaults } = this.world;
    await this.endReceiver();
    if (storeFaults !== null && this.random() < 0.7) await losePower(storeFaults, this.random);
    return true;
  }

  private async endReceiver(): Promise<void> {
    const { receiver } = this.world.site;
    if (!receiver.running) this.report('R4', 'the receiver had ended by itself');
    await receiver.kill();
  }

  private async stopReceiver(): Promise<boolean> {
    const status = await this.world.site.receiver.stop();
    if (status !== 0) this.report('R4', `a receiver that was told to stop ended with ${status}`);
    return true;
  }

  /** `end` says whether it struck. */
  private async receiverAway(end: () => Promise<boolean>): Promise<boolean> {
    const { receiver } = this.world.site;
    const hasStruck = await end();
    await sleep(this.between(0, 1200));
    await receiver.start();
    return hasStruck;
  }

  private async freeze(pid: number | null, ms: number): Promise<boolean> {
    if (pid === null) return false;
    process.kill(pid, 'SIGSTOP');
    try {
      await sleep(ms);
      return / T /.test(await readFile(`/proc/${pid}/stat`, 'utf8'));
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  }

  private async cut(): Promise<boolean> {
    let busy = 0;
    for (let cuts = this.between(1, 4); cuts > 0; cuts -= 1) {
      const isStruck = await this.seen(() => {
        const now = this.world.proxy.cut();
        busy += now;
        return now > 0;
      });
      if (!isStruck) break;
      await sleep(this.between(20, 600));
    }
    return busy > 0;
  }

  private async heldUp(begin: () => unknown): Promise<boolean> {
    const { proxy } = this.world;
    const before = proxy.heldUp;
    begin();
    await sleep(this.between(300, 1500));
    const wasStalled = proxy.isStalled;
    // An agent that is on its way back has nothing to be held up yet.
    if (!wasStalled) await this.seen(() => proxy.heldUp > before);
    proxy.heal();
    return wasStalled ? this.seen(() => proxy.heldUp > before) : proxy.heldUp > before;
  }

  /** The receiver is away until history is not captured any more; by turns production goes on meanwhile, or waits. */
  private async fillRing(): Promise<boolean> {
    const { site, control, proxy } = this.world;
    await this.endReceiver();
    await control.waitFor('tracking', TRACKING_SECONDS_MAX, ({ state }) => state === 'tracking');
    if (this.random() < 0.5) {
      await site.receiver.start();
      return true;
    }
    await this.load.stop();
    await this.database.frozen(async () => {
      proxy.isStalled = true;
      await site.receiver.start();
      await this.resync(() => {
        proxy.heal();
        proxy.cut();
        return Promise.resolve();
      });
    });
    this.load.start(await control.agentGroup());
    return true;
  }

  /**
   * Agent and supervisor are gone, and with them what they kept; what the receiver did not have was in the ring. Where its
   * disks are recorded, what was not synced on them is in doubt as well. By turns production had rested before, so that
   * nothing was marked, and perhaps had just begun to write again. The database has rested before it, and goes on behind it.
   */
  private async loseHost(): Promise<boolean> {
    const { site, control, proxy } = this.world;
    // The fault before may have been the end of an agent.
    await control.waitFor('answering', SUCCESSOR_MS_MAX / 1000, () => true);
    await this.database.rest();
    const hasRested = this.random() < 0.5;
    if (hasRested) await this.rest();
    proxy.isStalled = true;
    if (!hasRested) {
      await sleep(this.between(50, 500));
    } else if (this.random() < 0.5) {
      this.load.start(await control.agentGroup());
      await sleep(this.between(5, 80));
    }
    const pid = site.agent.supervisedPid();
    const dying = site.agent.kill();
    if (pid !== null) process.kill(pid, 'SIGKILL');
    await dying;
    await this.load.stop();
    await this.seen(() => hasEnded(pid));
    await this.losePower();
    proxy.cut();
    proxy.heal();
    await this.resync(() => site.agent.start());
    const group = await control.agentGroup();
    this.load.start(group);
    await this.database.begin(deviceOf(group, DATABASE));
    return true;
  }

  private async resync(connect: () => Promise<void>): Promise<void> {
    const resync = await measuredResync(this.world, connect);
    if (resync !== null) this.resyncs.push(resync);
  }

  /** Nobody writes until all is unmarked, which a flush of the backing comes before; after one that failed nothing is. */
  private async rest(): Promise<void> {
    const { control } = this.world;
    // A group that a successor serves and could not start yet names no devices, and no doubts either.
    await control.waitFor('started', SUCCESSOR_MS_MAX / 1000, ({ volumes }) =>
      volumes.every(({ device }) => device !== ''),
    );
    await this.load.stop();
    const hasRested = await this.seen(async () => {
      const { volumes } = await control.agentGroup();
      return volumes.every(({ doubtBytes }) => doubtBytes === 0n);
    });
    if (hasRested) this.rested += 1;
  }

  private async losePower(): Promise<void> {
    const { backingFaults, stateFaults, stamped } = this.world;
    for (const directory of [backingFaults, stateFaults])
      if (directory !== null) await losePower(directory, this.random);
    if (backingFaults === null) return;
    const lostNs = this.load.losePower();
    const images = await Promise.all(stamped.map(({ backing }) => readFile(backing)));
    const oracle = new Oracle(
      this.load.operations,
      stamped.map(({ bytes }) => bytes),
    );
    for (const text of oracle.judge(images, lostNs).violations)
      this.report('R4', `what production had flushed before the host was lost: ${text}`);
  }

  private async fillStore(disk: string): Promise<boolean> {
    const { control } = this.world;
    const isSmall = await this.seen(async () => {
      const { blocks, bfree, bsize } = await statfs(disk);
      const bytes = (blocks - bfree) * bsize + this.between(64 << 10, 1 << 20);
      // It refuses where more than that has been taken meanwhile.
      const options = { accept: [32] };
      return (await command('mount', ['-o', `remount,size=${bytes}`, disk], options)).status === 0;
    });
    if (!isSmall) return false;
    try {
      return await this.seen(async () => {
        const group = await control.agentGroup().catch(() => null);
        return group?.detail.includes('JOURNAL_FULL') === true;
      });
    } finally {
      await command('mount', ['-o', `remount,size=${STORE_BYTES}`, disk]);
    }
  }

  private async noSpace(
    directory: FaultDirectory | null,
    ms: number,
    meanwhile: () => Promise<unknown> = () => sleep(0),
  ): Promise<boolean> {
    if (directory === null) return false;
    for (const op of ['write', 'create', 'fallocate', 'truncate', 'mkdir'] as const)
      await directory.add({ op, path: '*', do: 'fail', errno: 'ENOSPC' });
    await Promise.all([sleep(ms), meanwhile()]);
    await this.seen(async () => (await directory.report()).some(({ struck }) => struck > 0), STRUCK_MS_MAX);
    return this.over(directory);
  }

  private async fail(
    directory: FaultDirectory | null,
    rule: FaultRule,
    meanwhile: () => Promise<unknown> = () => sleep(0),
  ): Promise<boolean> {
    if (directory === null) return false;
    await directory.add(rule);
    await meanwhile();
    const isOver = async (): Promise<boolean> =>
      (await directory.report()).some(({ struck }) => struck === rule.times);
    await this.seen(isOver, STRUCK_MS_MAX);
    return this.over(directory);
  }

  private rule(
    op: FaultRule['op'],
    path: string,
    effect: Pick<FaultRule, 'do' | 'errno' | 'bytes'>,
  ): FaultRule {
    return { op, path, ...effect, after: this.between(0, 20), times: this.between(1, 4) };
  }

  private async over(directory: FaultDirectory): Promise<boolean> {
    const hasStruck = (await directory.report()).some(({ struck }) => struck > 0);
    await directory.clear();
    return hasStruck;
  }
}

/** Also when nobody has asked yet how. */
function hasEnded(pid: number | null): boolean {
  try {
    return pid === null || / Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return true; // its number is nobody's any more
  }
}
