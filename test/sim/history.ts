/**
 * One seeded history: a protected host, a receiver, the network between them, and everything that can go wrong with
 * them, in an order that the seed decides. Then everything comes to rest and is judged (oracle.ts).
 */
import { strict as assert } from 'node:assert';
import type { SessionLimits as AgentLimits } from '../../agent/session_limits.js';
import type { ReceiverMessage, VolumeInfo } from '../../proto/replication.js';
import type { SessionLimits as ReceiverLimits } from '../../receiver/session_limits.js';
import { AgentNode } from './agent_node.js';
import type { AgentEndpoint, StateDirectory } from './agent_node.js';
import { faultPlan } from './fault_plan.js';
import type { FaultPlan } from './fault_plan.js';
import { BLOCK_BYTES, ModelHost } from './model_host.js';
import { copyLogs, newLogs } from './model_dirty_log.js';
import type { StoredLogs } from './model_dirty_log.js';
import { ModelStore } from './model_store.js';
import type { StoreCopy } from './model_store.js';
import { Reached } from './mark_checks.js';
import type { FoundBlock } from './model_verification.js';
import { Endpoint } from './network.js';
import { assertKept, orderedSpans, verifyPoints, verifyReplica } from './oracle.js';
import type { OrderedSpan } from './oracle.js';
import { Random } from './random.js';
import { ReceiverNode } from './receiver_node.js';
import type { Upstream } from './receiver_node.js';
import { Process, Scheduler } from './scheduler.js';

const AGENT_LIMITS: Omit<AgentLimits, 'lsnReserve'> = {
  unsentBytesMax: 4096,
  unackedBytesMax: 12_288,
  pieceBytes: 4096,
  hashBytes: 4096,
  syncWindowBytes: 16_384,
  blockBytes: 2048,
  fineBlockBytes: 512,
  syncStepsMax: 2,
  hashRequestsMax: 2,
  checkpointsMax: 3,
  silenceTicksMax: 10,
  refusalsMax: 3,
};
const RECEIVER_LIMITS: ReceiverLimits = {
  baseSyncBytes: 12_288,
  baseSyncBytesIdle: 4096,
  appendBytesMax: 24_576,
  hashRequestsMax: 2,
  hashBytesMax: 4096,
  hashBlockBytesMin: 512,
  pieceBytesMax: 4096,
  piecesMax: 8,
  checkpointsMax: 3,
};
/** Of the second, which leaves and comes back, the samples of a partial resync are a small part. */
const VOLUME_BLOCKS = [96, 401];
const SETTLE_MS_MAX = 400_000;
/** Of the last verification: another one may be under way, or a session be lost in between. */
const VERIFY_ATTEMPTS = 20;
const VERIFY_PAUSE_MS = 1000;
const DISK_MS = 20;
const SLOW_DISK_MS = 900;
const LINK_MS = 20;
const SLOW_LINK_MS = 1500;

const FAULTS_OF_A_PEER = [
  'SESSION_ORDER',
  'MESSAGE_INVALID',
  'WATERMARK_INVALID',
  'FRAME_FENCED',
  'FRAME_GENERATION',
  'FRAME_REPEATED',
  'FRAME_GAP',
  'FRAME_LINK',
  'JOURNAL_OVERLOAD',
  'VOLUME_MISMATCH',
];

/** A host with its agent's state directory, and the agent if it runs. */
interface Site {
  host: ModelHost;
  directory: StateDirectory;
  agent: AgentNode | null;
  /** Of its dirty logs. */
  backup: StoredLogs | null;
  wasSetBack: boolean;
  /** What it began with, if it is a copy. */
  copied: ShownCounts;
}

export interface HistoryResult {
  /** How often each fault, and each rare turn of the session, came up. */
  counts: Map<string, number>;
  points: number;
  records: number;
}

/** At least so many changes of any of these hosts show all of the site's: a copy begins with what the original had. */
type ShownCounts = readonly (readonly [ModelHost, number])[];

function shownCounts({ host, copied }: Site): ShownCounts {
  const own = [host, host.shownCount] as const;
  return host.shownCount > 0 ? [own] : [own, ...copied];
}

/** What whoever of them answers must show. */
function leastCounts(sites: readonly Site[]): Map<ModelHost, number> {
  const least = new Map<ModelHost, number>();
  for (const [host, count] of sites.flatMap(shownCounts))
    least.set(host, Math.min(count, least.get(host) ?? count));
  return least;
}

export class History {
  readonly #random: Random;
  readonly #plan: FaultPlan;
  readonly #scheduler = new Scheduler();
  readonly #store = new ModelStore();
  readonly #counts = new Map<string, number>();
  readonly #sites: Site[] = [];
  readonly #volumes: VolumeInfo[];
  readonly #identity: { group: Buffer; member: Buffer };
  #receiver: ReceiverNode | null = null;
  #links: AgentEndpoint[] = [];
  #isCut = false;
  #diskMs = DISK_MS;
  #linkMs = LINK_MS;
  #isOver = false;
  #stamp = 0;
  #requests = 0;
  #copy: StoreCopy | null = null;
  #promised: OrderedSpan[] = [];
  readonly #reached = new Reached();
  /** Of the last session that found fault with its peer. */
  #blamed: string | null = null;
  /** By request: how many of each host's changes a checkpoint must at least show. Only these hosts may answer it. */
  readonly #asked = new Map<string, { name: string; counts: Map<ModelHost, number> }>();
  /** Requests whose asker was told that the checkpoint is kept. */
  #kept = new Set<string>();

  constructor(seed: number) {
    const random = new Random(seed);
    this.#random = random;
    this.#plan = faultPlan(random);
    this.#identity = { group: random.bytes(16), member: random.bytes(16) };
    this.#volumes = VOLUME_BLOCKS.map((blocks, number) => ({
      number,
      uuid: random.bytes(16),
      name: `volume${number}`,
      size: BigInt(blocks * BLOCK_BYTES),
      blockSize: BLOCK_BYTES,
    }));
  }

  /** Errors: AssertionErrors, by whoever was the first to see that something is wrong. */
  run(): HistoryResult {
    const content = VOLUME_BLOCKS.map((blocks) =>
      Array.from({ length: blocks }, () => (this.#random.chance(0.5) ? 0 : this.#nextStamp())),
    );
    this.#addSite(content, { stored: null, logs: newLogs(this.#volumes, this.#random) });
    this.#startReceiver();
    this.#trouble();
    this.#scheduler.run(this.#plan.durationMs);
    const { host } = this.#settle();
    const points = verifyPoints(this.#store);
    assertKept(this.#store, this.#promised);
    verifyReplica(this.#store, host);
    this.#verifyCheckpoints();
    const records = this.#store.generations.reduce((sum, generation) => sum + generation.records.length, 0);
    this.#count('generations', this.#store.generations.length);
    this.#judgeHarmless();
    return { counts: this.#counts, points, records };
  }

  /** Kills, cuts and outages within what ring and spool hold cost nothing: no gap, no resync. */
  #judgeHarmless(): void {
    // Whoever dies before it has a ring leaves none.
    if (!this.#plan.isHarmless || this.#counts.has('nobodyServed')) return;
    // One that was begun by a process that never heard of it has no record.
    const used = this.#store.generations.filter(({ records }) => records.length > 0);
    assert(used.length <= 1, `${used.length} generations have records, though nothing was lost`);
    this.#count('harmless');
    if (this.#counts.has('spoolInherited')) this.#count('harmlessSpoolInherited');
  }

  #count(kind: string, by = 1): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + by);
  }
  #nextStamp(): number {
    this.#stamp += 1;
    return this.#stamp;
  }

  // --- the cast ---

  #addSite(content: number[][], directory: StateDirectory, original: Site | null = null): void {
    const host = new ModelHost(
      this.#volumes,
      content,
      this.#random,
      () => this.#nextStamp(),
      (lsn) => this.#reached.raise('captured', lsn),
      original?.host.isLastAway ?? false,
    );
    const copied = original === null ? [] : shownCounts(original);
    const site: Site = { host, directory, copied, agent: null, backup: null, wasSetBack: false };
    this.#sites.push(site);
    this.#startAgent(site);
  }

  #startAgent(site: Site): void {
    const random = this.#random;
    site.agent = new AgentNode(site.host, new Process(this.#scheduler), {
      scheduler: this.#scheduler,
      random,
      limits: { ...AGENT_LIMITS, lsnReserve: this.#plan.lsnReserve },
      backlog: this.#plan.backlog,
      directory: site.directory,
      reached: this.#reached,
      identity: {
        ...this.#identity,
        software: 'simulator',
        groupName: 'group',
        host: 'host',
        instance: random.bytes(16),
        volumes: this.#volumes,
      },
      dial: () => this.#dial(),
      failure: () => this.#rate(this.#plan.agentFailure),
      corruption: () => this.#rate(this.#plan.corruption),
      onFault: (kind) => {
        this.#count(kind);
        // The worst instant for a checkpoint: the stream is closed, and the session has not heard of it.
        if (kind === 'RING_FULL')
          this.#scheduler.after(random.int(1, 50), () => this.#askForCheckpoint(site));
      },
      onCheckpoint: (requestId, code) => this.#answered(requestId, code),
      onFail: (code, message) => this.#blame(code, message),
      onStopped: (clean) => {
        this.#count(clean ? 'cleanStop' : 'uncleanStop');
        site.agent = null;
        this.#scheduler.after(random.int(10, 3000), () => this.#restartAgent(site));
      },
    });
    site.agent.start();
    if (this.#isOver) site.agent.calm();
  }
  #restartAgent(site: Site): void {
    if (site.agent === null && !(this.#isOver && site !== this.#sites[0])) this.#startAgent(site);
  }

  #startReceiver(): void {
    this.#receiver = new ReceiverNode(new Process(this.#scheduler), {
      random: this.#random,
      limits: RECEIVER_LIMITS,
      store: this.#store,
      reached: this.#reached,
      diskMs: () => this.#diskMs,
      failure: () => this.#rate(this.#plan.storeFailure),
      onFault: (kind) => this.#count(kind),
      onCheckpoint: (requestId, code) => {
        this.#answered(requestId, code);
        if (code === '') this.#count('checkpointKeptForReceiver');
      },
      onClose: (code, message) => this.#blame(code, message),
    });
  }

  /** Two honest machines on a network that keeps its messages in order never find fault with each other. */
  #blame(code: string, message: string): void {
    this.#count(code);
    this.#blamed = code;
    const { lose, repeat, reorder } = this.#plan.network;
    const isHonest = lose + repeat + reorder === 0;
    assert(!isHonest || !FAULTS_OF_A_PEER.includes(code), `an honest peer was refused: ${code}, ${message}`);
  }

  /** What comes out of order is refused with a code that says so, at once. */
  #outOfOrder(deliver: () => void): void {
    this.#blamed = null;
    deliver();
    const code = this.#blamed as string | null;
    assert(
      code !== null && FAULTS_OF_A_PEER.includes(code),
      `a message out of its order was answered by ${code ?? 'nothing'}`,
    );
    this.#count('disorderRefused');
  }

  #answered(requestId: string, code: string): void {
    this.#count(code === '' ? 'checkpointKept' : 'checkpointRefused');
    if (code === '') this.#kept.add(requestId);
  }

  #dial(): AgentEndpoint | null {
    if (this.#receiver === null || this.#isCut) return null;
    const onFault = (kind: string): void => this.#count(kind);
    const delayMs = (): number => this.#linkMs;
    const outOfOrder = (deliver: () => void): void => this.#outOfOrder(deliver);
    const faults = this.#isOver ? { lose: 0, repeat: 0, reorder: 0 } : this.#plan.network;
    const near = new Endpoint<Upstream, ReceiverMessage>(
      this.#scheduler,
      this.#random,
      faults,
      delayMs,
      onFault,
      outOfOrder,
    );
    const far = new Endpoint<ReceiverMessage, Upstream>(
      this.#scheduler,
      this.#random,
      faults,
      delayMs,
      onFault,
      outOfOrder,
    );
    Endpoint.connect(near, far);
    this.#receiver.accept(far);
    this.#links = [...this.#links.slice(-4), near];
    return near;
  }
  #rate(rate: number): number {
    return this.#isOver ? 0 : rate;
  }

  // --- trouble ---

  #trouble(): void {
    const { everyMs, kinds } = this.#plan;
    this.#scheduler.after(this.#random.int(1, everyMs * 2), () => {
      if (this.#isOver) return;
      const kind = this.#random.pick(kinds);
      if (this.#cause(kind)) this.#count(kind);
      this.#promise();
      this.#trouble();
    });
  }

  /** False when there is nobody whom it could happen to. */
  #cause(kind: FaultPlan['kinds'][number]): boolean {
    const random = this.#random;
    const site = random.pick(this.#sites);
    switch (kind) {
      case 'connectionLost':
        this.#links.at(-1)?.close();
        return this.#links.length > 0;
      case 'outage':
        this.#links.at(-1)?.close();
        return this.#during((isOn) => (this.#isCut = isOn));
      case 'slowDisk':
        return this.#during((isOn) => (this.#diskMs = isOn ? SLOW_DISK_MS : DISK_MS));
      case 'slowLink':
        return this.#during((isOn) => (this.#linkMs = isOn ? SLOW_LINK_MS : LINK_MS));
      case 'agentCrash':
        if (site.agent === null) return false;
        site.agent.crash();
        site.agent = null;
        this.#scheduler.after(random.int(10, 3000), () => this.#restartAgent(site));
        return true;
      case 'agentKilled':
        if (site.agent === null) return false;
        if (!site.agent.kill()) this.#count('nobodyServed');
        site.agent = null;
        if (this.#plan.kinds.includes('spoolDamaged') && random.chance(0.2)) this.#loseSpoolFile(site);
        this.#scheduler.after(random.int(10, 600), () => this.#restartAgent(site));
        return true;
      case 'spoolDamaged': {
        const { spool } = site.host;
        if (spool.length === 0) return false;
        random.pick(spool).isDamaged = true;
        return true;
      }
      case 'powerLoss':
        if (site.agent === null) return false;
        site.agent.losePower();
        site.agent = null;
        this.#scheduler.after(random.int(10, 3000), () => this.#restartAgent(site));
        return true;
      case 'logsRestored': {
        // The dirty logs as they were some time ago, under a backing as it is.
        const before = site.backup;
        site.backup = copyLogs(site.directory.logs);
        if (before === null || site.agent === null || site.wasSetBack) return false;
        if (!this.#isToldOfMore(site.directory.logs, before)) return false;
        site.agent.crash();
        site.agent = null;
        site.directory.logs = before;
        site.wasSetBack = true; // its sequences come again with other marks: a second time nobody could tell
        this.#scheduler.after(random.int(10, 3000), () => this.#restartAgent(site));
        return true;
      }
      case 'agentStop': {
        const { agent } = site;
        if (agent === null) return false;
        agent.stop();
        this.#scheduler.after(random.int(500, 8000), () => agent.expireStop());
        return true;
      }
      case 'receiverCrash':
        return this.#stopReceiver(() => undefined);
      case 'receiverRestored': {
        const copy = this.#copy;
        this.#copy = this.#store.copy();
        if (copy === null) return false;
        return this.#stopReceiver(() => {
          this.#store.restore(copy);
          for (const { host } of this.#sites) host.forgetFound();
          this.#promised = [];
          this.#kept = new Set(this.#store.checkpoints.map(({ requestId }) => requestId));
        });
      }
      case 'agentCloned': {
        if (this.#sites.length > 2) return false;
        const content = site.host.backings.map((blocks) => [...blocks]);
        const { stored, logs } = site.directory;
        const { host } = site;
        this.#addSite(content, { stored, logs: copyLogs(logs) }, site);
        this.#sites.at(-1)?.host.inheritHidden(host);
        return true;
      }
      case 'checkpoint':
        return this.#askForCheckpoint(site);
      case 'verify':
        if (site.agent === null) return false;
        this.#verify(site, site.agent, random.chance(0.5));
        return true;
      case 'volumesChange':
        return site.agent?.changeVolumes() ?? false;
      case 'writtenBehind':
        site.host.writeBehind();
        return true;
    }
  }

  /** While nobody has it open. */
  #loseSpoolFile({ host: { spool } }: Site): void {
    if (spool.length > 0) spool.splice(this.#random.int(0, spool.length - 1), 1);
  }

  #verify(
    { host }: Site,
    agent: AgentNode,
    repair: boolean,
    onEnd: (isWhole: boolean) => void = () => undefined,
  ): void {
    // At once: the receiver may be set back before the verification has ended.
    const recorded = (found: readonly FoundBlock[]): void => {
      for (const { volume, block } of found) host.found(volume, block);
      this.#count('differenceFound', found.length);
    };
    agent.verify(repair, recorded, (isWhole) => {
      this.#count(isWhole ? 'verified' : 'verificationEnded');
      onEnd(isWhole);
    });
  }

  /**
   * Whether the receiver was told of a later state of each log that has changed since `before`. If not, nobody but the
   * backing itself could tell (docs/PROTOCOL.md): that is no promise.
   */
  #isToldOfMore(now: StoredLogs, before: StoredLogs): boolean {
    return before.every(({ sequence }, volume) => {
      const told = this.#store.volumes[volume]?.log.sequence ?? 0n;
      return now[volume]?.sequence === sequence || told > sequence;
    });
  }

  #askForCheckpoint(site: Site): boolean {
    const { agent } = site;
    if (this.#isOver) return false;
    this.#requests += 1;
    const requestId = `request ${this.#requests}`;
    const name = `point-${this.#requests}`;
    if (this.#random.chance(0.3)) {
      // The receiver asks whichever agent is connected.
      this.#asked.set(requestId, { name, counts: leastCounts(this.#sites) });
      this.#receiver?.askForCheckpoint(requestId, name);
    } else if (agent?.isAlive === true) {
      this.#asked.set(requestId, { name, counts: leastCounts([site]) });
      agent.askForCheckpoint(requestId, name);
    }
    return true;
  }

  #during(set: (isOn: boolean) => void): boolean {
    set(true);
    this.#scheduler.after(this.#random.int(500, 6000), () => set(false));
    return true;
  }

  #stopReceiver(meanwhile: () => void): boolean {
    if (this.#receiver === null) return false;
    this.#receiver.crash();
    this.#receiver = null;
    meanwhile();
    if (this.#random.chance(0.2)) verifyPoints(this.#store);
    this.#scheduler.after(this.#random.int(10, 4000), () => this.#startReceiver());
    return true;
  }

  #promise(): void {
    assertKept(this.#store, this.#promised);
    this.#promised = orderedSpans(this.#store);
  }

  // --- rest ---

  /** No more faults, one writer, no more writes: all of it must reach the receiver. */
  #settle(): Site {
    this.#isOver = true;
    this.#isCut = false;
    this.#diskMs = DISK_MS;
    this.#linkMs = LINK_MS;
    for (const link of this.#links) link.close(); // with them goes what they still might lose
    const winner = this.#random.pick(this.#sites);
    for (const site of this.#sites) if (site !== winner) site.agent?.crash();
    this.#sites.splice(0, this.#sites.length, winner);
    winner.agent?.calm();
    const untilMs = this.#scheduler.nowMs + SETTLE_MS_MAX;
    const isSettled = (): boolean => this.#isSettled(winner);
    while (this.#scheduler.nowMs < untilMs && !isSettled()) {
      // An operator starts the one that shall go on until it is let in.
      if (winner.agent?.isFenced === true) {
        winner.agent.crash();
        winner.agent = null;
        this.#restartAgent(winner);
      }
      // Nor are there any more changes of what is protected.
      if (winner.host.isLastAway) winner.agent?.changeVolumes();
      this.#scheduler.run(this.#scheduler.nowMs + 500, isSettled);
    }
    const { agent } = winner;
    const { marks, sync, isStreaming } = agent?.session ?? { marks: {}, sync: {}, isStreaming: false };
    const seen = { isStreaming, ...marks, ...sync, fenced: agent?.isFenced };
    assert(
      isSettled(),
      `it did not come to rest: ${JSON.stringify(seen, (_, v: unknown) => (typeof v === 'bigint' ? v.toString() : v))}`,
    );
    this.#repair(winner);
    return winner;
  }

  /** What was written behind the agent is found, and mended: replica and source are equal then. */
  #repair(winner: Site): void {
    let isEqual = !this.#plan.kinds.includes('writtenBehind');
    // Before the first record of all there is no LSN at which to compare.
    if (!isEqual && this.#store.durableLsn === 0n) winner.agent?.write();
    for (let attempt = 0; attempt < VERIFY_ATTEMPTS && !isEqual; attempt += 1) {
      assert(winner.agent !== null, 'it came to rest');
      let isOver = false;
      this.#verify(winner, winner.agent, true, (isWhole) => {
        isOver = true;
        isEqual = isWhole;
      });
      this.#scheduler.run(this.#scheduler.nowMs + SETTLE_MS_MAX, () => isOver);
      this.#scheduler.run(this.#scheduler.nowMs + VERIFY_PAUSE_MS);
      this.#scheduler.run(this.#scheduler.nowMs + SETTLE_MS_MAX, () => this.#isSettled(winner));
    }
    assert(isEqual && this.#isSettled(winner), 'a verification at rest did not come to its end');
  }
  #isSettled({ agent }: Site): boolean {
    return agent?.isSettled === true && !agent.host.isLastAway && this.#receiver?.isReady === true;
  }

  #verifyCheckpoints(): void {
    const spans = orderedSpans(this.#store);
    const records = new Map(
      this.#store.generations.flatMap((each) => each.records.map((record) => [record.lsn, record])),
    );
    const kept = new Set(this.#store.checkpoints.map(({ requestId }) => requestId));
    for (const requestId of this.#kept) assert(kept.has(requestId), `${requestId} was told to be kept`);
    for (const { requestId, name, lsn } of this.#store.checkpoints) {
      const isOrdered = spans.some(({ fromLsn, toLsn }) => lsn >= fromLsn && lsn <= toLsn);
      assert(isOrdered, `checkpoint ${name} at ${lsn} is not ordered`);
      const asked = this.#asked.get(requestId);
      const record = records.get(lsn);
      const count = record === undefined ? undefined : asked?.counts.get(record.host);
      assert(asked?.name === name, `checkpoint ${name} is not the one that was asked for`);
      assert(
        record !== undefined && count !== undefined && record.historyCount >= count,
        `checkpoint ${name} at ${lsn} lacks what was written before it was asked for`,
      );
    }
  }
}
