/**
 * The store: the one directory in which a receiver keeps everything.
 *
 *   store.json                                              identity and version of this layout
 *   lock                                                    held by the receiver that runs on it
 *   catalog.sqlite                                          receiver/catalog/
 *   authority.pem                                           who signs certificates (authority.ts)
 *   audit.log, audit.log.head                               who did what (service/audit_log.ts)
 *   reserve                                                 room that is set aside (store_room.ts)
 *   scratch/                                                overlays of writable exports, gone with them
 *   groups/<group>/<member>/journal/<first LSN>.seg|.run    docs/FORMAT.md
 *   groups/<group>/<member>/base/<volume>.img|.sum          docs/FORMAT.md
 */
import { closeSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { AfterimageError } from '../proto/errors.js';
import { makeDirectoryDurably, syncDirectory, writeDurably } from '../service/durable_file.js';
import { refuseUnsafeDirectory } from '../service/safe_path.js';
import { named, systemError } from '../service/system_errors.js';
import { STORE_VERSION } from './store_version.js';

/** Decimal digits of a first LSN in a segment's name: enough for every u64, so that names sort as numbers do. */
const LSN_DIGITS = 20;
const OWNER_ONLY = 0o700;

const identity = z.object({ uuid: z.uuid(), version: z.number().int().positive() });

/** Takes an exclusive lock on a file, held until the descriptor is closed; null when somebody else has it. */
export type LockFile = (file: string) => number | null;

export class Store {
  private constructor(
    readonly directory: string,
    readonly uuid: string,
    private readonly lock: number | null,
  ) {}

  /**
   * Makes a new, empty store with mode 0700; `fill` puts into it what it is to have from the beginning. Errors: STORE_EXISTS when the directory is not empty or a file, PERMISSION_DENIED,
   * DISK_FULL, IO_ERROR.
   */
  static async init(
    directory: string,
    uuid: string,
    fill: (store: Store) => Promise<unknown> = () => Promise.resolve(),
  ): Promise<Store> {
    const store = new Store(directory, uuid, null);
    try {
      await makeDirectoryDurably(directory, OWNER_ONLY);
      const found = await readdir(directory);
      if (found.length > 0) {
        throw new AfterimageError('STORE_EXISTS', `${directory} is not empty: it holds ${found[0]}`);
      }
      await chmod(directory, OWNER_ONLY);
      await mkdir(path.join(directory, 'groups'), { mode: OWNER_ONLY });
      await mkdir(path.join(directory, 'scratch'), { mode: OWNER_ONLY });
      await fill(store);
      // Last: a directory without it is no store, and init can be run again once it was emptied.
      const text = JSON.stringify({ uuid, version: STORE_VERSION });
      await writeDurably(path.join(directory, 'store.json'), `${text}\n`);
      return store;
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException;
      if (code === 'EEXIST' || code === 'ENOTDIR') {
        throw new AfterimageError('STORE_EXISTS', `${directory}: a file is in the way`, { cause: thrown });
      }
      throw storeError(thrown, directory);
    }
  }

  /** Opens a store and locks it. Errors: STORE_MISSING, STORE_INVALID, STORE_VERSION, STORE_BUSY, PATH_UNSAFE, PERMISSION_DENIED. */
  static async open(directory: string, lock: LockFile): Promise<Store> {
    const file = path.join(directory, 'store.json');
    try {
      await refuseUnsafeDirectory(directory);
      const { uuid, version } = parseIdentity(await readFile(file, 'utf8'), file);
      if (version !== STORE_VERSION) {
        throw new AfterimageError(
          'STORE_VERSION',
          `${directory} has layout ${version}; this program knows ${STORE_VERSION}`,
        );
      }
      const held = lock(path.join(directory, 'lock'));
      if (held === null) {
        throw new AfterimageError('STORE_BUSY', `${directory} is in use by a receiver, or a check of it`);
      }
      return new Store(directory, uuid, held);
    } catch (thrown) {
      throw storeError(thrown, directory);
    }
  }

  /** Lets another receiver have it. */
  close(): void {
    if (this.lock !== null) closeSync(this.lock);
  }

  get authorityFile(): string {
    return path.join(this.directory, 'authority.pem');
  }
  get auditFile(): string {
    return path.join(this.directory, 'audit.log');
  }
  get catalogFile(): string {
    return path.join(this.directory, 'catalog.sqlite');
  }
  journalDirectory(group: string, member: string): string {
    return path.join(this.directory, 'groups', group, member, 'journal');
  }
  segmentFile(group: string, member: string, firstLsn: bigint): string {
    return path.join(this.journalDirectory(group, member), segmentName(firstLsn));
  }
  baseFile(group: string, member: string, volume: string): string {
    return path.join(this.directory, 'groups', group, member, 'base', `${volume}.img`);
  }

  /** Whose segment that is, or null. */
  ownerOf(segmentFile: string): { group: string; member: string } | null {
    const [groups, group, member, kind] = path.relative(this.directory, segmentFile).split(path.sep);
    if (groups !== 'groups' || group === undefined || member === undefined || kind !== 'journal') return null;
    return { group, member };
  }

  /** The volume whose base that is, a UUID, or null. */
  volumeOf(baseFile: string): string | null {
    const [groups, , , kind, name] = path.relative(this.directory, baseFile).split(path.sep);
    return groups === 'groups' && kind === 'base' && name?.endsWith('.img') === true
      ? name.slice(0, -4)
      : null;
  }

  /** Whether a file, absolute, lies in the member's directory. */
  isOf({ group, uuid }: { group: string; uuid: string }, file: string): boolean {
    return file.startsWith(`${path.join(this.directory, 'groups', group, uuid)}${path.sep}`);
  }

  /** Makes the directories of a member, durably. They may exist. Errors: JOURNAL_FULL, PERMISSION_DENIED, IO_ERROR. */
  async createMember(group: string, member: string): Promise<void> {
    const groups = path.join(this.directory, 'groups');
    const memberDirectory = path.join(groups, group, member);
    const make = async (): Promise<void> => {
      await mkdir(path.join(memberDirectory, 'journal'), { recursive: true, mode: OWNER_ONLY });
      await mkdir(path.join(memberDirectory, 'base'), { recursive: true, mode: OWNER_ONLY });
      for (const directory of [memberDirectory, path.dirname(memberDirectory), groups]) {
        await syncDirectory(directory);
      }
    };
    await named(make(), memberDirectory, 'JOURNAL_FULL');
  }
}

/** "00000000000000000001.seg" */
export function segmentName(firstLsn: bigint): string {
  return `${firstLsn.toString().padStart(LSN_DIGITS, '0')}.seg`;
}
/** The first LSN in a segment's name, or null when it is not one. */
export function segmentFirstLsn(fileName: string): bigint | null {
  return /^\d{20}\.seg$/.test(fileName) ? BigInt(fileName.slice(0, LSN_DIGITS)) : null;
}
/** The first LSN of the segment that a file of the journal belongs to: the segment itself, its run, or what became of them. */
export function fileFirstLsn(fileName: string): bigint | null {
  return /^\d{20}\.(seg|run)(\.|$)/.test(fileName) ? BigInt(fileName.slice(0, LSN_DIGITS)) : null;
}
/** The checksums of the base image in `baseFile`. */
export function sumsFile(baseFile: string): string {
  return baseFile.replace(/\.img$/, '.sum');
}
/** The run of the segment in `segmentFile`. */
export function runFile(segmentFile: string): string {
  return segmentFile.replace(/\.seg$/, '.run');
}
/** Whether there is such a file. Errors: PERMISSION_DENIED, IO_ERROR. */
export async function isThere(file: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw systemError(thrown, file);
  }
}

function parseIdentity(text: string, file: string): z.output<typeof identity> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new AfterimageError('STORE_INVALID', `${file} is not JSON`, { cause });
  }
  const parsed = identity.safeParse(json);
  if (!parsed.success) throw new AfterimageError('STORE_INVALID', `${file} names no store`);
  return parsed.data;
}

function storeError(thrown: unknown, directory: string): AfterimageError {
  const code = (thrown as NodeJS.ErrnoException).code ?? '';
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new AfterimageError('STORE_MISSING', `${directory} holds no store`, { cause: thrown });
  }
  return systemError(thrown, directory);
}
