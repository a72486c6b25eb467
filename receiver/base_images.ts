/**
 * The base images that a member's initial sync writes, with their checksums. A base is a sparse file of the volume's
 * size; it is written directly by a sync only until it is complete, and never again (R6); later retention moves it
 * (retention/base_roll.ts).
 *
 * Nothing here decides: the session machine says when to begin, write and sync, and the caller keeps that order per
 * volume. Descriptors stay open from the first write to close().
 */
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import type { BlockDevice } from '../native/index.js';
import type { SyncData } from '../proto/replication.js';
import { syncDirectory } from '../service/durable_file.js';
import { named } from '../service/system_errors.js';
import { sumsFile } from './store.js';

export interface BaseImagesParts {
  openBase(file: string): Promise<BlockDevice>;
  completeBase(file: string): Promise<void>;
}

/** The file system that bases lie on. */
export interface BaseRoom {
  /** Errors: JOURNAL_FULL when no more than what is kept free would be left. */
  check(): Promise<void>;
}

/** Of a base are written before room is looked for again. */
const CHECK_BYTES = 4 * 1024 * 1024;

export class BaseImages {
  private readonly devices = new Map<string, Promise<BlockDevice>>();
  private uncheckedBytes = CHECK_BYTES;

  constructor(
    private readonly parts: BaseImagesParts,
    private readonly room: BaseRoom,
  ) {}

  /** Makes `file` an empty image of `size` bytes, durably, whatever it held. Errors: JOURNAL_FULL, IO_ERROR. */
  async begin(file: string, size: bigint): Promise<void> {
    await this.release(file);
    await named(makeEmpty(file, size), file, 'JOURNAL_FULL');
  }

  /** Checks, expands and writes one piece. Errors: MESSAGE_INVALID, BACKING_*, JOURNAL_FULL, IO_ERROR. */
  async write(file: string, piece: SyncData): Promise<void> {
    const { offset, rawBytes, compressed, crc32c, data } = piece;
    this.uncheckedBytes += rawBytes;
    if (this.uncheckedBytes >= CHECK_BYTES) {
      await this.room.check();
      this.uncheckedBytes = 0;
    }
    const device = await this.device(file);
    await named(device.writePiece(offset, rawBytes, compressed, crc32c, data), file, 'JOURNAL_FULL');
  }

  /** Makes everything written so far durable. Errors: JOURNAL_FULL, IO_ERROR. */
  async sync(file: string): Promise<void> {
    await named((await this.device(file)).flush(), file, 'JOURNAL_FULL');
  }

  /** Everything was written: what no piece touched has its checksum too, durably. Errors: as sync. */
  async seal(file: string): Promise<void> {
    await this.sync(file);
    await this.release(file);
    await named(this.parts.completeBase(file), file, 'JOURNAL_FULL');
  }

  /** Closes one image, if it is open. */
  async release(file: string): Promise<void> {
    const device = this.devices.get(file);
    this.devices.delete(file);
    await (await device)?.close();
  }

  async close(): Promise<void> {
    for (const file of [...this.devices.keys()]) await this.release(file);
  }

  private device(file: string): Promise<BlockDevice> {
    const open = this.devices.get(file);
    if (open !== undefined) return open;
    const opening = this.parts.openBase(file);
    this.devices.set(file, opening);
    opening.catch(() => {
      if (this.devices.get(file) === opening) this.devices.delete(file);
    });
    return opening;
  }
}

async function makeEmpty(file: string, size: bigint): Promise<void> {
  // First: what they say is of what the image held.
  await rm(sumsFile(file), { force: true });
  await syncDirectory(path.dirname(file));
  const handle = await open(file, 'w', 0o600);
  try {
    await handle.truncate(Number(size));
    await handle.sync();
  } finally {
    await handle.close();
  }
  await syncDirectory(path.dirname(file));
}
