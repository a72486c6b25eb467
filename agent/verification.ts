/**
 * Compares volumes with their replicas while production writes (docs/PROTOCOL.md, "Verification"). A piece is read under
 * its extent lock, with the LSN at which a replica has to hold just the same; the receiver hashes its state at that LSN once
 * it is durable. What differs is compared again in smaller blocks, read anew, so that each verdict is about one instant.
 * A repair journals what differs again, as the backing holds it.
 */
import { hashBlocks } from '../native/index.js';
import { AfterimageError, isErrorCode } from '../proto/errors.js';
import type { DifferingExtent, VerificationProgress } from '../proto/control.js';
import { higher } from '../proto/watermarks.js';
import { Pace } from '../service/pace.js';
import type { Clock } from './clock.js';
import type { AgentAction, Range } from './session_events.js';
import { SESSION_LIMITS } from './session_limits.js';
import { differingBlocks } from './sync.js';
import type { VerifyQuestion } from './verify_exchange.js';

/** Bytes per second, unless somebody says otherwise: read from the backing, and again at the receiver. */
export const VERIFY_RATE_DEFAULT = 64n * 1024n * 1024n;
const ID_MAX = 0xffffffff;
/** Between attempts to record what could not be recorded when it was found. */
const OWED_RETRY_MS = 1000;

export interface VerifiedVolume {
  number: number;
  name: string;
  size: bigint;
}
/** What it needs of its member. */
export interface VerificationPort {
  /** Why the group cannot be verified now, "" when it can. */
  unavailable(): string;
  /** The generation that captures now. */
  generation(): bigint;
  /** Its answer comes to answered(). */
  ask(question: VerifyQuestion): void;
  /** Fills `into` from `offset` on; the LSN at which a replica holds just that, 0n: nothing is captured. */
  read(volume: number, offset: bigint, into: Buffer): Promise<bigint>;
  /** Journals the range as it is; the record's LSN, 0n: nothing is captured. */
  repair(volume: number, range: Range): Promise<bigint>;
}
export interface VerifyOptions {
  repair: boolean;
  /** Bytes per second. */
  rateMax: bigint;
}
type Answer = Extract<AgentAction, { type: 'verifyAnswered' }>;

/** Of a volume, so far. */
interface Found {
  readonly generation: bigint;
  /** Of the first and the last comparison or repair. */
  beginLsn: bigint;
  endLsn: bigint;
  bytes: bigint;
  extents: bigint;
  /** The first block of it. */
  first: Range | null;
  /** Whether the receiver knows that something differs. */
  isRecorded: boolean;
}

export class Verification {
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  readonly #ending = new AbortController();
  #lastId = 0;
  #isBusy = false;

  constructor(
    private readonly port: VerificationPort,
    private readonly clock: Clock,
  ) {}

  /** Nobody answers any more. */
  end({ code, message }: AfterimageError): void {
    this.#ending.abort();
    const none = Buffer.alloc(0);
    for (const id of [...this.#waiting.keys()]) {
      this.answered({ type: 'verifyAnswered', id, code, message, hashes: none, hashKey: none });
    }
  }

  /** The session's answer to a question. */
  answered(answer: Answer): void {
    const settle = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    settle?.(answer);
  }

  /**
   * One volume after the other; a message for each piece, and one with phase `done` for each volume. Errors: VERIFY_BUSY,
   * VERIFY_UNAVAILABLE, SESSION_LOST, INTERRUPTED, IO_ERROR, and why the receiver could not open a point.
   */
  async *run(
    volumes: readonly VerifiedVolume[],
    options: VerifyOptions,
    signal: AbortSignal,
  ): AsyncGenerator<VerificationProgress, void> {
    if (this.#isBusy) throw new AfterimageError('VERIFY_BUSY', 'a verification of the group is under way');
    this.#isBusy = true;
    try {
      this.#assertAvailable();
      const sleep = (ms: number): Promise<void> => this.clock.sleep(ms, signal).catch(() => undefined);
      const pace = new Pace(options.rateMax, { nowMs: () => this.clock.monotonicMs(), sleep, signal });
      for (const volume of volumes) yield* this.#verify(volume, options.repair, pace, signal);
    } finally {
      this.#isBusy = false;
    }
  }

  async *#verify(
    { number, name, size }: VerifiedVolume,
    repair: boolean,
    pace: Pace,
    signal: AbortSignal,
  ): AsyncGenerator<VerificationProgress, void> {
    const nothing = { bytes: 0n, extents: 0n, first: null, isRecorded: false };
    const found: Found = { generation: this.port.generation(), beginLsn: 0n, endLsn: 0n, ...nothing };
    const told = { volume: name, bytesTotal: size, phase: 'compare', repaired: false, lsn: 0n };
    let isComplete = false;
    try {
      for (let offset = 0n; offset < size;) {
        if (signal.aborted)
          throw new AfterimageError('INTERRUPTED', `the verification of ${name} was stopped`);
        const left = size - offset;
        const length = left < BigInt(SESSION_LIMITS.pieceBytes) ? Number(left) : SESSION_LIMITS.pieceBytes;
        const extents = await this.#piece(number, { offset, length }, found, repair);
        offset += BigInt(length);
        yield { ...told, bytesDone: offset, extents };
        await pace.spent(BigInt(length));
      }
      isComplete = true;
    } finally {
      // How much it was, also when nobody wants to know the rest.
      if (!isComplete && found.isRecorded)
        await this.#recordLast(number, found, false).catch(() => undefined);
    }
    await this.#recordLast(number, found, repair || found.bytes === 0n);
    const repaired = repair && found.bytes > 0n;
    yield { ...told, bytesDone: size, extents: [], phase: 'done', repaired, lsn: found.endLsn };
  }

  /** What of the piece differs, in the smallest blocks that are compared. */
  async #piece(volume: number, range: Range, found: Found, repair: boolean): Promise<DifferingExtent[]> {
    const differing: Range[] = [];
    try {
      await this.#compare(volume, range, found, differing);
    } finally {
      // Before it is told, and before a repair hides it: what showed it is not `ordered` (R5).
      if (differing.length > 0 && !found.isRecorded) await this.#recordFirst(volume, found);
    }
    if (repair) for (const one of differing) reach(found, await this.port.repair(volume, one));
    return differing.map(({ offset, length }) => ({ offset, length: BigInt(length) }));
  }

  /**
   * Adds what differs to `found`, and to `differing`, also when it fails in the middle. A large block that differed counts as
   * a whole where nothing smaller can be told of it: production may have written over it meanwhile, which proves nothing of
   * the instants before.
   */
  async #compare(volume: number, range: Range, found: Found, differing: Range[]): Promise<void> {
    const { blockBytes, fineBlockBytes } = SESSION_LIMITS;
    for (const coarse of await this.#differing(volume, range, blockBytes, found)) {
      let known = [coarse];
      try {
        const fine = await this.#differing(volume, coarse, fineBlockBytes, found);
        if (fine.length > 0) known = fine;
      } finally {
        for (const one of known) {
          found.first ??= one;
          found.bytes += BigInt(one.length);
          found.extents += 1n;
          differing.push(one);
        }
      }
    }
  }

  /** Also when the connection goes just now, unless the session fails or the agent dies before there is another. */
  async #recordFirst(volume: number, found: Found): Promise<void> {
    try {
      await this.#record(volume, found, false);
      found.isRecorded = true;
    } catch (thrown) {
      if (found.first !== null) void this.#owe(volume, { ...found }, found.first);
      throw thrown;
    }
  }

  /** Records it when that is possible again, up to then: the generation may be another by then. */
  async #owe(volume: number, found: Found, { offset, length }: Range): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      await this.clock.sleep(OWED_RETRY_MS, signal).catch(() => undefined);
      if (signal.aborted || this.port.unavailable() !== '') continue;
      try {
        const lsn = await this.port.read(volume, offset, Buffer.allocUnsafe(length));
        if (lsn === 0n) continue; // nothing is captured
        await this.#record(volume, { ...found, endLsn: lsn }, false);
        return;
      } catch {
        // The connection went again, or nothing is captured: later.
      }
    }
  }

  async #differing(volume: number, range: Range, blockBytes: number, found: Found): Promise<Range[]> {
    this.#assertSame(found);
    const { offset, length } = range;
    const bytes = Buffer.allocUnsafe(length);
    const lsn = await this.port.read(volume, offset, bytes);
    reach(found, lsn);
    const id = this.#nextId();
    const request = { id, volume, lsn, offset, length, blockBytes };
    const { hashes, hashKey } = await this.#ask(id, { verifyRequest: request });
    return differingBlocks(await hashBlocks(bytes, blockBytes, hashKey), range, { blockBytes, hashes });
  }

  /** A session of another generation, or without the volume, would be ended by it. Errors: those of #assertSame and #ask. */
  async #recordLast(volume: number, found: Found, complete: boolean): Promise<void> {
    this.#assertSame(found);
    await this.#record(volume, found, complete);
  }

  async #record(volume: number, found: Found, complete: boolean): Promise<void> {
    const { beginLsn, endLsn, bytes, extents, first } = found;
    const id = this.#nextId();
    const firstOffset = first?.offset ?? 0n;
    const differing = { differingBytes: bytes, differingExtents: extents, firstOffset };
    await this.#ask(id, { verifyDone: { id, volume, beginLsn, endLsn, ...differing, complete } });
  }

  async #ask(id: number, question: VerifyQuestion): Promise<Answer> {
    if (this.#ending.signal.aborted) throw new AfterimageError('SESSION_LOST', 'the session has ended');
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting.set(id, resolve);
      this.port.ask(question);
    });
    const { code, message } = answer;
    if (code !== '') throw new AfterimageError(isErrorCode(code) ? code : 'INTERNAL', message);
    return answer;
  }

  #assertAvailable(): void {
    const unavailable = this.port.unavailable();
    if (unavailable !== '') throw new AfterimageError('VERIFY_UNAVAILABLE', unavailable);
  }

  /** Errors: VERIFY_UNAVAILABLE; SESSION_LOST where another generation may have mended what was found. */
  #assertSame({ generation }: Found): void {
    this.#assertAvailable();
    if (this.port.generation() !== generation)
      throw new AfterimageError('SESSION_LOST', 'another generation has begun');
  }

  #nextId(): number {
    this.#lastId = this.#lastId === ID_MAX ? 1 : this.#lastId + 1;
    return this.#lastId;
  }
}

/** Errors: VERIFY_UNAVAILABLE when nothing is captured. */
function reach(found: Found, lsn: bigint): void {
  if (lsn === 0n)
    throw new AfterimageError('VERIFY_UNAVAILABLE', 'the group is tracking: nothing is captured');
  if (found.endLsn === 0n) found.beginLsn = lsn;
  found.endLsn = higher(found.endLsn, lsn);
}
