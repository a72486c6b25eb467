/** What a verification tells the receiver, and when: before anybody else, before a repair, and also after a lost connection. */
import { createHmac } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import type { VerifyDone } from '../../proto/replication.js';
import type { Clock } from '../../agent/clock.js';
import { SESSION_LIMITS } from '../../agent/session_limits.js';
import { Verification, type VerificationPort } from '../../agent/verification.js';
import type { VerifyQuestion } from '../../agent/verify_exchange.js';

const BYTES = 4 << 20;
const OPTIONS = { repair: false, rateMax: 1n << 40n };
let nowMs = 0;
/** Always so much later that no pace has to be kept. */
const clock: Clock = {
  nowNs: () => 0n,
  monotonicMs: () => (nowMs += 1000),
  sleep: () => turn(),
  random: () => 0,
};
const recorded = ({ differingBytes, complete }: VerifyDone): [bigint, boolean] => [differingBytes, complete];

/** A volume, its replica, and a receiver that can be away. */
class Scene implements VerificationPort {
  readonly source = Buffer.alloc(BYTES);
  readonly replica = Buffer.alloc(BYTES);
  /** What happened, in order. */
  readonly log: ('repair' | VerifyDone)[] = [];
  isAway = false;
  /** The connection goes with the next VerifyDone. */
  losesNextDone = false;
  lsn = 100n;
  inGeneration = 1n;
  /** Called before the smallest blocks are compared. */
  onFine: () => void = () => undefined;
  readonly verification = new Verification(this, clock);
  readonly #key = Buffer.alloc(32, 7);

  get done(): VerifyDone[] {
    return this.log.filter((entry) => entry !== 'repair');
  }
  unavailable(): string {
    return this.isAway ? 'the group is disconnected' : '';
  }
  generation(): bigint {
    return this.inGeneration;
  }
  read(_: number, offset: bigint, into: Buffer): Promise<bigint> {
    if (into.length === SESSION_LIMITS.blockBytes) this.onFine();
    this.source.copy(into, 0, Number(offset));
    return Promise.resolve(this.lsn);
  }
  repair(_: number, { offset, length }: { offset: bigint; length: number }): Promise<bigint> {
    this.source.copy(this.replica, Number(offset), Number(offset), Number(offset) + length);
    this.log.push('repair');
    this.lsn += 1n;
    return Promise.resolve(this.lsn);
  }
  ask(question: VerifyQuestion): void {
    if ('verifyDone' in question) {
      const { verifyDone } = question;
      if (this.losesNextDone) this.isAway = true;
      this.losesNextDone = false;
      if (!this.isAway) this.log.push(verifyDone);
      return this.#answer(verifyDone.id, Buffer.alloc(0));
    }
    const { id, offset, length, blockBytes } = question.verifyRequest;
    const hashes: Buffer[] = [];
    for (let at = Number(offset); at < Number(offset) + length; at += blockBytes) {
      const block = this.replica.subarray(at, at + blockBytes);
      hashes.push(createHmac('sha256', this.#key).update(block).digest());
    }
    this.#answer(id, Buffer.concat(hashes));
  }
  async run(options = OPTIONS): Promise<number> {
    let extents = 0;
    const volumes = [{ number: 1, name: 'disk', size: BigInt(BYTES) }];
    for await (const progress of this.verification.run(volumes, options, new AbortController().signal))
      extents += progress.extents.length;
    return extents;
  }

  #answer(id: number, hashes: Buffer): void {
    const code = this.isAway ? 'SESSION_LOST' : '';
    this.verification.answered({
      type: 'verifyAnswered',
      ...{ id, code, message: '', hashes, hashKey: this.#key },
    });
  }
}

t.test('a difference is recorded before it is mended, and what it has come to afterwards', async (t) => {
  const scene = new Scene();
  scene.source.fill(1, 4096, 8192);
  scene.source.fill(1, 3 << 20, (3 << 20) + 8192);
  t.equal(await scene.run({ ...OPTIONS, repair: true }), 2);
  t.same(
    scene.log.map((entry) => (entry === 'repair' ? entry : recorded(entry))),
    [[4096n, false], 'repair', 'repair', [12288n, true]],
  );
  t.equal(await scene.run(), 0);
  t.same(scene.done.at(-1)?.differingBytes, 0n, 'they are equal');
});

// Symptom: a difference that production wrote over between the comparison of the large block and that of the small ones
// was no difference, and the instants before it stayed `ordered`.
t.test('a difference that is written over before it can be narrowed down is one all the same', async (t) => {
  const scene = new Scene();
  const write = { offset: 0n, length: 8192 };
  scene.source.fill(1, 4096, 8192);
  scene.onFine = () => {
    scene.source.fill(2, 0, write.length);
    scene.source.copy(scene.replica, 0, 0, write.length);
    scene.lsn = 200n;
  };
  t.equal(await scene.run(), 1);
  t.same(scene.done.map(recorded), [
    [65536n, false],
    [65536n, false],
  ]);
  t.equal(scene.done[0]?.beginLsn, 100n);
});

t.test(
  'a difference whose small blocks cannot be compared is recorded when that is possible again',
  async (t) => {
    const scene = new Scene();
    scene.source.fill(1, 4096, 8192);
    scene.onFine = () => (scene.isAway = true);
    await t.rejects(scene.run(), { code: 'SESSION_LOST' });
    scene.onFine = () => undefined;
    scene.isAway = false;
    for (let waited = 0; waited < 5; waited += 1) await turn();
    t.same(scene.done.map(recorded), [[65536n, false]]);
  },
);

t.test('a difference whose connection goes as it is told of is recorded with the next one', async (t) => {
  const scene = new Scene();
  scene.source.fill(1, 4096, 8192);
  scene.losesNextDone = true;
  await t.rejects(scene.run({ ...OPTIONS, repair: true }), { code: 'SESSION_LOST' });
  t.same(scene.log, [], 'it was neither recorded nor mended');
  for (let waited = 0; waited < 5; waited += 1) await turn();
  t.same(scene.log, [], 'nobody can be told yet');
  scene.isAway = false;
  scene.lsn = 0n;
  for (let waited = 0; waited < 5; waited += 1) await turn();
  t.same(scene.log, [], 'nor while nothing is captured');
  scene.lsn = 500n; // another generation by now
  for (let waited = 0; waited < 5; waited += 1) await turn();
  t.same(scene.done.map(recorded), [[4096n, false]]);
  t.match(scene.done[0], { beginLsn: 100n, endLsn: 500n }, 'from when it was found up to then');
});

t.test(
  'a verification that is stopped says how much it had found; nothing is owed after its end',
  async (t) => {
    const scene = new Scene();
    scene.source.fill(1, 0, 2 << 20);
    const stop = new AbortController();
    const volumes = [{ number: 1, name: 'disk', size: BigInt(BYTES) }];
    const running = scene.verification.run(volumes, OPTIONS, stop.signal);
    await running.next();
    await running.next();
    stop.abort();
    await t.rejects(running.next(), { code: 'INTERRUPTED' });
    t.same(scene.done.map(recorded), [
      [1n << 20n, false],
      [2n << 20n, false],
    ]);

    const another = scene.verification.run(volumes, OPTIONS, new AbortController().signal);
    await another.next();
    scene.inGeneration = 2n;
    await t.rejects(another.next(), { code: 'SESSION_LOST' }, 'the new generation may have mended it');
    t.equal(scene.done.length, 3, 'nor is it told of with LSNs of the old one');

    scene.losesNextDone = true;
    await t.rejects(scene.run(), { code: 'SESSION_LOST' });
    scene.verification.end(new AfterimageError('INTERRUPTED', 'the agent stops'));
    scene.isAway = false;
    for (let waited = 0; waited < 5; waited += 1) await turn();
    t.equal(scene.done.length, 3);
    await t.rejects(scene.run(), { code: 'SESSION_LOST' }, 'whoever asks afterwards is told');
  },
);
