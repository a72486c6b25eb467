/**
 * Who did what, when, and what came of it: one line of JSON for each, appended and never changed. Every line holds the SHA-256 of
 * the one before, and a file beside the log says how many there are and what the last one's is, so that a line that was changed,
 * moved or taken away is found. Whoever can write both files can make up another history: against that the last hash is noted
 * elsewhere, and handed to readAuditLog.
 */
import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { open, readFile, type FileHandle } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import type { AuditMessage, AuditRequest } from '../proto/control.js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { removeUnfinished, writeDurably } from './durable_file.js';
import { isLocal } from './local_caller.js';
import type { Log } from './log.js';
import { systemError } from './system_errors.js';

/** What the first line has in place of the hash of a line before it. */
const NO_HASH = '0'.repeat(64);
const NO_HEAD = { number: 0, hash: NO_HASH };
const TEXT_CHARACTERS_MAX = 1024;
const LIST_MAX = 32;
/** Of each text in a list. */
const ITEM_CHARACTERS_MAX = 128;
/** A disk that takes longer is not waited for. */
const WAIT_MS_MAX = 5_000;
/** Entries that wait for the disk, of all and of one who is not on this machine; more are lost. */
const WAITING_MAX = 1_000;
const WAITING_OF_ONE_MAX = 16;
/** What lies there under that name but is a link is not followed. */
const OPEN_FLAGS = constants.O_APPEND | constants.O_CREAT | constants.O_RDWR | constants.O_NOFOLLOW;
/** More than the longest line has, twice. */
const TAIL_BYTES = 1 << 20;

const line = z.strictObject({
  number: z.int().positive(),
  time: z.string(),
  who: z.string(),
  what: z.string(),
  /** What it was done to: names, points, paths. Never a secret. */
  with: z.record(z.string(), z.union([z.string(), z.boolean(), z.array(z.string())])),
  /** "ok", "begun", or the code of the error. */
  outcome: z.string(),
  /** Entries before this one that could not be written. */
  lost: z.int().nonnegative(),
  /** SHA-256 of the line before, without its newline, hex. */
  previous: z.string().regex(/^[0-9a-f]{64}$/),
});
/** Of the last line. */
const head = z.strictObject({ number: z.int().nonnegative(), hash: z.string().regex(/^[0-9a-f]{64}$/) });

export type AuditLine = z.output<typeof line>;
export type AuditEntry = Pick<AuditLine, 'who' | 'what' | 'with' | 'outcome'>;
type Head = z.output<typeof head>;

/** The file, once it is open. */
interface OpenLog {
  handle: FileHandle;
  /** Of the line that was written last. */
  head: Head;
  /** Bytes of whole lines. */
  length: number;
}

export class AuditLog {
  private opened: OpenLog | null = null;
  private lost = 0;
  private waiting = 0;
  private readonly waitingOf = new Map<string, number>();
  /** Entries are written one after the other. Never rejects. */
  private writing: Promise<void> = Promise.resolve();

  /** `file` is made, or gone on with, by open() or the first entry. */
  constructor(
    readonly file: string,
    private readonly log: Log,
  ) {}

  /** Errors: PERMISSION_DENIED, DISK_FULL, IO_ERROR. */
  async open(): Promise<void> {
    await this.whenOpen();
  }

  /**
   * Appends an entry. On stable storage when it resolves, if the disk takes it, and answers: what cannot be written is in the
   * daemon's log, and counted in the next entry that can. A recovery, above all, must neither fail nor wait for that. Never
   * rejects.
   */
  async write(entry: AuditEntry): Promise<void> {
    const { who } = entry;
    const ofOne = this.waitingOf.get(who) ?? 0;
    // Whoever asks faster than the disk writes takes nobody else's place.
    if (this.waiting >= WAITING_MAX || (!isLocal(who) && ofOne >= WAITING_OF_ONE_MAX))
      return this.lose(
        entry,
        new Error(`${ofOne} entries of ${who}, and ${this.waiting} in all, wait for its disk`),
      );
    const time = new Date();
    this.waiting += 1;
    this.waitingOf.set(who, ofOne + 1);
    this.writing = this.writing.then(async () => {
      await this.append(entry, time).catch((thrown: unknown) => this.lose(entry, thrown));
      this.waiting -= 1;
      const left = (this.waitingOf.get(who) ?? 0) - 1;
      if (left > 0) this.waitingOf.set(who, left);
      else this.waitingOf.delete(who);
    });
    await inTime(this.writing);
  }

  /** Waits for what is being written, if the disk answers. Nothing may be written any more. */
  async close(): Promise<void> {
    const closing = this.writing.then(() => this.opened?.handle.close());
    await inTime(
      closing.catch((thrown: unknown) => this.log.error({ err: toAfterimageError(thrown) }, 'at its close')),
    );
  }

  private lose(entry: AuditEntry, thrown: unknown): void {
    this.lost += 1;
    this.log.error({ err: toAfterimageError(thrown), entry }, 'the audit log could not be written');
  }

  private async append(entry: AuditEntry, time: Date): Promise<void> {
    const opened = await this.whenOpen();
    const { handle, head, length } = opened;
    const next: AuditLine = {
      number: head.number + 1,
      time: time.toISOString(),
      who: bounded(entry.who),
      what: entry.what,
      with: Object.fromEntries(Object.entries(entry.with).map(([key, value]) => [key, boundedValue(value)])),
      outcome: entry.outcome,
      lost: this.lost,
      previous: head.hash,
    };
    const text = JSON.stringify(next);
    try {
      await handle.appendFile(`${text}\n`);
      await handle.datasync();
    } catch (thrown) {
      // Half a line would take the next one with it.
      await handle.truncate(length).catch(() => undefined);
      throw thrown;
    }
    opened.head = { number: next.number, hash: hashOf(text) };
    opened.length = length + Buffer.byteLength(text) + 1;
    this.lost = 0;
    await writeDurably(headFile(this.file), `${JSON.stringify(opened.head)}\n`).catch((thrown: unknown) => {
      // The next entry says it: until then this line is one more than the head has, as after a crash.
      this.log.error({ err: toAfterimageError(thrown) }, 'the head of the audit log could not be written');
    });
  }

  private async whenOpen(): Promise<OpenLog> {
    if (this.opened !== null) return this.opened;
    const { file, log } = this;
    try {
      await removeUnfinished(headFile(file));
      const said = await readHead(file);
      const handle = await open(file, OPEN_FLAGS, 0o600);
      try {
        const { lines, length, size } = await readTail(handle);
        // Half a line is what a crash left of an entry whose verb nobody was told of.
        if (length < size) await handle.truncate(length);
        const last = headAfter(lines.at(-1));
        const isWhole = said !== null && (isSame(last, said) || isSame(headAfter(lines.at(-2)), said));
        if (!isWhole)
          log.error(
            { file, last, said },
            'the audit log is not what was written: see `afterimage audit --verify`',
          );
        // After a line that is not there: so whoever verifies it finds that out for ever.
        const head = isWhole ? last : (said ?? { ...last, hash: NO_HASH });
        this.opened = { handle, head, length };
        return this.opened;
      } catch (thrown) {
        await handle.close();
        throw thrown;
      }
    } catch (thrown) {
      throw systemError(thrown, file);
    }
  }
}

/** What is wrong with an audit log. */
export interface AuditFault {
  /** Of the line, from 1. */
  line: number;
  what: string;
}
export interface AuditVerdict {
  lines: number;
  /** SHA-256 of the last line, hex: to be noted elsewhere. */
  hash: string;
  faults: AuditFault[];
}

/**
 * Reads a log that is perhaps being written: gives its lines, as far as they are any, and in the end what is wrong with it.
 * `expected`: the hash of a line that was noted earlier and must be among them. Errors: AUDIT_MISSING, PERMISSION_DENIED,
 * IO_ERROR.
 */
export async function* readAuditLog(
  file: string,
  expected: string | null = null,
): AsyncGenerator<AuditLine, AuditVerdict> {
  const faults: AuditFault[] = [];
  const said = await readHead(file);
  let lines = 0;
  let last = NO_HEAD;
  let isHeadThere = said?.number === 0;
  let isExpectedThere = expected === null;
  for await (const text of linesOf(file)) {
    lines += 1;
    const complain = (what: string): void => void faults.push({ line: lines, what });
    const parsed = parseLine(text);
    if (parsed === null) complain('it is not as this program writes lines');
    else {
      if (parsed.previous !== last.hash) complain('the line before it is not the one that was there');
      else if (parsed.number !== last.number + 1)
        complain(`it is number ${parsed.number} behind ${last.number}`);
      yield parsed;
    }
    last = { number: parsed?.number ?? last.number + 1, hash: hashOf(text) };
    isHeadThere ||= said !== null && isSame(last, said);
    isExpectedThere ||= last.hash === expected;
  }
  if (said === null) faults.push({ line: lines, what: `${headFile(file)} is not as this program writes it` });
  else if (!isHeadThere)
    faults.push({ line: lines, what: `line ${said.number}, the last that was written, is missing` });
  // One more than it says is an entry that is being written, or that a crash left.
  else if (last.number > said.number + 1)
    faults.push({ line: lines, what: `${last.number - said.number} lines were added` });
  if (!isExpectedThere) faults.push({ line: lines, what: `no line has the hash ${expected}` });
  return { lines, hash: last.hash, faults };
}

/** The last whole lines, where they end, and where the file does. */
async function readTail(handle: FileHandle): Promise<{ lines: string[]; length: number; size: number }> {
  const { size } = await handle.stat();
  const begin = Math.max(0, size - TAIL_BYTES);
  const bytes = Buffer.alloc(size - begin);
  const { bytesRead } = await handle.read(bytes, 0, bytes.length, begin);
  const whole = bytes.subarray(0, bytesRead).lastIndexOf(0x0a) + 1;
  const lines = bytes.subarray(0, whole).toString('utf8').split('\n').slice(0, -1);
  return { lines, length: begin + whole, size };
}

function headAfter(text: string | undefined): Head {
  if (text === undefined) return NO_HEAD;
  return { number: parseLine(text)?.number ?? 0, hash: hashOf(text) };
}
function isSame(a: Head, b: Head): boolean {
  return a.number === b.number && a.hash === b.hash;
}

async function* linesOf(file: string): AsyncGenerator<string, void> {
  const stream = createReadStream(file, 'utf8');
  try {
    yield* createInterface({ input: stream, crlfDelay: Infinity });
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT')
      throw new AfterimageError('AUDIT_MISSING', `${file}: there is no audit log`, { cause: thrown });
    throw systemError(thrown, file);
  } finally {
    stream.destroy();
  }
}

/** Null: what the file says is not what this program writes. */
async function readHead(file: string): Promise<Head | null> {
  try {
    return head.parse(JSON.parse(await readFile(headFile(file), 'utf8')));
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return NO_HEAD;
    if (thrown instanceof z.ZodError || thrown instanceof SyntaxError) return null;
    throw systemError(thrown, headFile(file));
  }
}

async function inTime(work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, WAIT_MS_MAX)));
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

function parseLine(text: string): AuditLine | null {
  try {
    return line.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

function headFile(file: string): string {
  return `${file}.head`;
}
function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
function boundedValue(value: AuditLine['with'][string]): AuditLine['with'][string] {
  if (typeof value === 'string') return bounded(value);
  if (!Array.isArray(value)) return value;
  const items = value.slice(0, LIST_MAX).map((item) => bounded(item, ITEM_CHARACTERS_MAX));
  return value.length <= LIST_MAX ? items : [...items, `… ${value.length - LIST_MAX} more`];
}
function bounded(text: string, charactersMax = TEXT_CHARACTERS_MAX): string {
  return text.length <= charactersMax ? text : `${text.slice(0, charactersMax)}…`;
}

/** Of the lines of one message; one more goes beyond it. */
const MESSAGE_CHARACTERS = 1 << 18;

/** What a daemon tells of its log: lines, if they are wanted, and at last the verdict. Errors: as readAuditLog. */
export async function* tellAuditLog(
  file: string,
  { verdictOnly, expected }: AuditRequest,
): AsyncGenerator<AuditMessage, void> {
  const reading = readAuditLog(file, expected === '' ? null : expected);
  let lines: string[] = [];
  let characters = 0;
  for (;;) {
    const next = await reading.next();
    if (next.done === true) {
      const { hash, faults } = next.value;
      const told = faults.map(({ line, what }) => ({ line: BigInt(line), what }));
      yield { lines, verdict: { lines: BigInt(next.value.lines), hash, faults: told } };
      return;
    }
    if (verdictOnly) continue;
    const text = JSON.stringify(next.value);
    lines.push(text);
    characters += text.length;
    if (characters < MESSAGE_CHARACTERS) continue;
    yield { lines, verdict: null };
    lines = [];
    characters = 0;
  }
}
