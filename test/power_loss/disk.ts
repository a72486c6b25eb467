/**
 * A disk, as far as an operator's record tells: walks through it, and knows at every moment what is certain to be there
 * and what power loss may take away (file_content.ts, names.ts).
 */
import type { Operation } from '../fault/operation_log.js';
import { FileContent, type Choice } from './file_content.js';
import { Names } from './names.js';

/** A state that the disk may hold. */
export interface DiskChoice extends Choice {
  /** Whether the change of names arrived. */
  hasName(operation: Operation): boolean;
}
export interface DiskFile {
  path: string;
  number: number;
  /** The file's own, whatever disk it is on. */
  key: string;
  /** Of the file's content: the same number and version, when nothing of it is uncertain, are the same content. */
  version: number;
  isCertain: boolean;
  content: () => Buffer;
}
export interface DiskState {
  /** Those above come before those below. */
  directories: string[];
  files: DiskFile[];
}

type Event = { moment: number; ns: bigint; operation: Operation; isEnd: boolean };

export class Disk {
  private static count = 0;
  private readonly id = (Disk.count += 1);
  private readonly files = new Map<number, FileContent>();
  private readonly names = new Names();
  private readonly events: Event[];
  private next = 0;

  /** `existing`: what the files held, by path, that were there before anything was recorded. It is changed. */
  constructor(
    operations: readonly Operation[],
    private readonly existing: ReadonlyMap<string, Buffer> = new Map(),
  ) {
    this.events = operations
      .flatMap((operation): Event[] => [
        { moment: operation.begin, ns: operation.beginNs, operation, isEnd: false },
        { moment: operation.end, ns: operation.endNs, operation, isEnd: true },
      ])
      .sort((left, right) => left.moment - right.moment);
  }

  /** Everything up to and including `moment` has happened. Moments only rise. */
  advance(moment: number): void {
    for (let event = this.events[this.next]; event !== undefined; event = this.events[this.next]) {
      if (event.moment > moment) return;
      this.happen(event);
      this.next += 1;
    }
  }

  /** When the next moment came, nanoseconds of CLOCK_MONOTONIC; null: there is none. Until then all is as it is now. */
  get untilNs(): bigint | null {
    return this.events[this.next]?.ns ?? null;
  }

  /** What may be there or not, in the order in which it began. */
  uncertain(): { names: Operation[]; contents: Operation[] } {
    const tree = this.names.choose(() => true);
    const named = new Set(tree.values());
    const contents = [...this.files]
      .filter(([number]) => named.has(number))
      .flatMap(([, file]) => file.uncertain)
      .sort((left, right) => left.begin - right.begin);
    return { names: this.names.uncertain, contents };
  }

  choose(choice: DiskChoice): DiskState {
    const tree = this.names.choose((operation) => choice.hasName(operation));
    const directories: string[] = [];
    const files: DiskFile[] = [];
    for (const [path, number] of [...tree].sort(([left], [right]) => (left < right ? -1 : 1))) {
      if (number === null) {
        directories.push(path);
        continue;
      }
      const file = this.file(number);
      const { version, isCertain } = file;
      files.push({
        path,
        number,
        key: `${this.id} ${number}`,
        version,
        isCertain,
        content: () => file.choose(choice),
      });
    }
    return { directories, files };
  }

  private happen({ operation, isEnd }: Event): void {
    const { kind, error, file } = operation;
    switch (kind) {
      case 'sync':
        if (isEnd) this.file(file).sync(operation);
        return;
      case 'syncdir':
        if (isEnd) this.names.sync(operation);
        return;
      case 'write':
      case 'truncate':
      case 'fallocate':
        if (!isEnd && error === 0) this.file(file).apply(operation);
        return;
      case 'exists':
        if (isEnd) return;
        this.names.exists(operation);
        if (file !== 0) this.files.set(file, new FileContent(this.existing.get(operation.path)));
        return;
      case 'create':
      case 'mkdir':
      case 'rename':
      case 'unlink':
      case 'link':
      case 'rmdir':
        if (!isEnd && error === 0) this.names.apply(operation);
    }
  }

  private file(number: number): FileContent {
    let file = this.files.get(number);
    if (file === undefined) {
      file = new FileContent();
      this.files.set(number, file);
    }
    return file;
  }
}
