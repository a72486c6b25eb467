import { open } from 'node:fs/promises';
import { claim } from './contradiction.js';
import type { JournalRecord } from './record.js';
import { areZero } from './zeroes.js';

const READ_BYTES = 1_048_576;

/** The content of one volume, in memory, as the records applied so far have made it. */
export class VolumeImage {
  #content: Buffer;

  private constructor(content: Buffer) {
    this.#content = content;
  }

  /** Starts from a base image; what the file lacks, or all if there is none, is zero. */
  static async fromBase(path: string, size: number): Promise<VolumeImage> {
    const image = new VolumeImage(Buffer.alloc(size));
    const base = await open(path).catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
      throw error;
    });
    if (base === null) return image;
    try {
      const part = Buffer.alloc(READ_BYTES);
      for (let at = 0; ;) {
        const { bytesRead } = await base.read(part, 0, READ_BYTES, at);
        if (bytesRead === 0) return image;
        const inside = Math.max(0, Math.min(bytesRead, size - at));
        part.copy(image.#content, at, 0, inside);
        claim(
          areZero(part.subarray(inside, bytesRead)),
          'base image has content beyond the size of its volume',
        );
        at += bytesRead;
      }
    } finally {
      await base.close();
    }
  }

  get content(): Buffer {
    return this.#content;
  }

  /** What is added is zero. */
  resize(bytes: number): void {
    const resized = Buffer.alloc(bytes);
    this.#content.copy(resized);
    this.#content = resized;
  }

  /** Applies a record of this volume whose range lies within it. payload is its frame's, uncompressed. */
  apply(record: JournalRecord, payload: Buffer): void {
    const { kind, offset, length, payloadOffset } = record;
    switch (kind) {
      case 'write':
        payload.copy(this.#content, offset, payloadOffset, payloadOffset + length);
        return;
      case 'zero':
        this.#content.fill(0, offset, offset + length);
        return;
      case 'resize':
      case 'membership':
        return this.resize(offset);
      case 'flush':
      case 'clock':
      case 'void':
        return;
    }
  }
}
