/** The plan of a resync that compares what is in doubt, against a receiver that answers at once. */
import t from 'tap';
import { ExtentSet } from '../../agent/extent_set.js';
import type { AgentAction } from '../../agent/session_events.js';
import { SESSION_LIMITS } from '../../agent/session_limits.js';
import { SyncPlan } from '../../agent/sync_plan.js';
import type { AgentBody, HashRequest, VolumeInfo, VolumeState } from '../../proto/replication.js';

const MIB = 1024 * 1024;
const EXTENT = 4 * MIB;
const BLOCK = SESSION_LIMITS.blockBytes;
const SIZE = 64 * EXTENT;
const INFO: VolumeInfo = {
  number: 0,
  uuid: Buffer.alloc(16),
  name: 'data',
  size: BigInt(SIZE),
  blockSize: 512,
};
const DOUBTFUL: VolumeState = {
  number: 0,
  base: 'BASE_COMPLETE',
  syncOffset: 0n,
  synced: false,
  whole: false,
};

class Scene {
  readonly said: AgentBody[] = [];
  readonly asked: HashRequest[] = [];
  readonly refusals: string[] = [];
  private readonly actions: AgentAction[] = [];
  readonly plan = new SyncPlan(SESSION_LIMITS, {
    emit: (action) => void this.actions.push(action),
    send: (body) => {
      this.said.push(body);
      if ('hashRequest' in body) this.asked.push(body.hashRequest);
    },
    sendPiece: () => undefined,
    hasRoom: () => true,
    refuse: (message) => void this.refusals.push(message),
  });
  private answered = 0;
  readonly kinds: string[] = [];
  /** Compared and not a probe, bytes. */
  compared: { offset: bigint; length: number }[] = [];
  probed: bigint[] = [];
  sent: { offset: bigint; blockBytes: number }[] = [];

  constructor(
    private readonly marked: number[],
    /** Whether a probe finds a difference. */
    private readonly probeDiffers: (offset: bigint) => boolean = () => false,
  ) {}

  start(state: VolumeState = DOUBTFUL): void {
    this.plan.start(7n, [INFO], [state], Buffer.alloc(32));
  }
  /** Answers everything, up to `most` steps, or until nothing is left to answer. */
  run(most = Infinity): void {
    for (let step = 0; step < most; step += 1) {
      const request = this.asked[this.answered];
      const action = this.actions.shift();
      if (action !== undefined) this.carryOut(action);
      else if (request !== undefined) {
        this.answered += 1;
        const hashes = Buffer.alloc(Math.ceil(request.length / request.blockBytes) * 32);
        this.plan.hashReply({ id: request.id, hashes });
      } else return;
    }
  }
  private carryOut(action: AgentAction): void {
    this.kinds.push(action.type);
    if (action.type === 'readExtents') {
      const bitmap = Buffer.alloc(SIZE / EXTENT / 8);
      for (const extent of this.marked)
        bitmap[extent >> 3] = (bitmap[extent >> 3] ?? 0) | (1 << (extent & 7));
      this.plan.extentsRead(action.turn, ExtentSet.of(BigInt(SIZE), EXTENT, bitmap));
    } else if (action.type === 'compare') {
      const { turn, offset, length, purpose, blockBytes } = action;
      if (purpose === 'probe') {
        this.probed.push(offset);
        this.plan.compared(turn, false, this.probeDiffers(offset) ? [{ offset, length }] : []);
      } else if (purpose === 'find') {
        this.compared.push({ offset, length });
        // In each piece its second block.
        this.plan.compared(turn, false, [{ offset: offset + BigInt(blockBytes), length: blockBytes }]);
      } else {
        this.sent.push({ offset, blockBytes });
        this.plan.compared(turn, false, [{ offset, length: blockBytes }]);
      }
    } else if (action.type === 'fence') this.plan.fenced(action.turn, 50n);
  }
  get comparedExtents(): number[] {
    return [...new Set(this.compared.map(({ offset }) => Number(offset) / EXTENT).map(Math.floor))];
  }
  get comparedBytes(): number {
    return this.compared.reduce((sum, { length }) => sum + length, 0);
  }
}

t.test('only what is marked is compared, and a few places that are not are looked at', (t) => {
  const scene = new Scene([3, 4, 20]);
  scene.start();
  scene.run();
  t.same(scene.said[0], { syncBegin: { volume: 0, kind: 'SYNC_RESYNC', offset: 0n, partial: true } });
  t.same(scene.comparedExtents, [3, 4, 20]);
  t.equal(scene.comparedBytes, 3 * EXTENT);
  t.equal(scene.probed.length, 15, 'of the 17 places two are in marked extents');
  t.ok(scene.probed.includes(0n), 'where file systems begin');
  t.ok(scene.probed.includes(BigInt(SIZE - BLOCK)), 'and where some keep a copy');
  t.same(scene.said.at(-1), { syncDone: { volume: 0, lsn: 50n } });
  scene.plan.syncComplete({ volume: 0, lsn: 50n });
  scene.run();
  t.equal(scene.kinds.at(-1), 'volumeSynced', 'from now on it may be unmarked');
  t.equal(scene.sent.length, 3, 'each block that differs is compared again');
  t.ok(scene.sent.every(({ blockBytes }) => blockBytes === 4096));
  t.same(scene.plan.report(0), { comparedBytes: BigInt(3 * EXTENT), differingBytes: BigInt(3 * 4096) });
  t.equal(scene.plan.pending, null);
  t.same(scene.refusals, []);
  t.end();
});

t.test('with nothing in doubt there is nothing to compare', (t) => {
  const scene = new Scene([]);
  scene.start();
  scene.run();
  t.equal(scene.comparedBytes, 0);
  t.same(scene.said.at(-1), { syncDone: { volume: 0, lsn: 50n } });
  t.end();
});

t.test('a difference where nothing is marked puts the whole volume in doubt', (t) => {
  // Somebody wrote behind the agent, or the backing is another one.
  const scene = new Scene([3], (offset) => offset === BigInt(SIZE - BLOCK));
  scene.start();
  scene.run();
  t.ok(scene.said.some((body) => 'volumeDoubt' in body && body.volumeDoubt.volume === 0));
  t.equal(scene.comparedExtents.length, SIZE / EXTENT, 'all of it is compared');
  t.same(scene.said.at(-1), { syncDone: { volume: 0, lsn: 50n } });
  t.same(scene.refusals, []);
  const order = scene.said.map((body) => Object.keys(body)[0]);
  t.ok(order.indexOf('volumeDoubt') < order.indexOf('syncDone'));
  t.end();
});

t.test('where the receiver says so, all of it is compared and the dirty log is not asked', (t) => {
  const scene = new Scene([3]);
  scene.start({ ...DOUBTFUL, whole: true });
  scene.run();
  t.same(scene.said[0], { syncBegin: { volume: 0, kind: 'SYNC_RESYNC', offset: 0n, partial: false } });
  t.notOk(scene.kinds.includes('readExtents'));
  t.equal(scene.comparedBytes, SIZE);
  t.end();
});

t.test('after a reconnect it goes on where it was, with what was marked when it began', (t) => {
  const scene = new Scene([3, 4, 20, 30, 40]);
  scene.start();
  while (scene.comparedBytes < 2 * EXTENT) scene.run(1);
  scene.plan.stop();
  scene.start();
  scene.plan.stop();
  const begins = scene.said.flatMap((body) => ('syncBegin' in body ? [body.syncBegin] : []));
  t.equal(begins.length, 2);
  t.ok((begins[1]?.offset ?? 0n) > 0n);
  t.ok(begins[1]?.partial);
  scene.start({ ...DOUBTFUL, whole: true });
  const last = scene.said.flatMap((body) => ('syncBegin' in body ? [body.syncBegin] : [])).at(-1);
  t.match(last, { offset: 0n, partial: false }, 'unless the receiver has lost its trust meanwhile');
  t.end();
});
