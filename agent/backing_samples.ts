/**
 * Checksums of a few places of a backing, taken at a clean stop after the last flush and again at the next start: whoever
 * put another content there without a write that this host counts (an array that rolled a volume back, an older copy of the
 * file under a loop device) is found out where one of them differs.
 */
import { createHash } from 'node:crypto';
import type * as native from '../native/index.js';
import type { BackingEvidence } from './backing_fingerprint.js';

/** Superblock, descriptors and bitmaps of most file systems: what each mount changes is there. */
const HEAD_BYTES = 1 << 20;
/** Evenly spread, so that the headers of XFS allocation groups are among them, and the last block. */
const PLACES = 32n;
const PLACE_BYTES = 4096;

/**
 * Of the first `size` bytes of `backing`, a multiple of 512. "": they cannot be read, which is equal to nothing. Never
 * rejects.
 */
export async function backingSamples(
  backing: Pick<native.BlockDevice, 'read'>,
  size: bigint,
): Promise<string> {
  const hash = createHash('sha256').update(`${size}`);
  try {
    for (const { offset, length } of places(size)) {
      const content = Buffer.alloc(length);
      await backing.read(offset, content);
      hash.update(content);
    }
  } catch {
    return '';
  }
  return hash.digest('hex');
}

/** What is known once samples were compared as well: `before` is "" where none were taken. */
export function evidenceOfSamples(found: BackingEvidence, before: string, now: string): BackingEvidence {
  if (before === '' || before === now) return found;
  if (now !== '') return 'changed';
  return found === 'untouched' ? 'none' : found;
}

function places(size: bigint): { offset: bigint; length: number }[] {
  const blockBytes = BigInt(PLACE_BYTES);
  const head = size < BigInt(HEAD_BYTES) ? Number(size) : HEAD_BYTES;
  const even = Array.from({ length: Number(PLACES) }, (_, index) => (BigInt(index) * size) / PLACES);
  const offsets = new Set([...even, size - 1n].map((at) => at - (at % blockBytes)));
  const rest = [...offsets].filter((offset) => offset >= BigInt(head));
  return [
    { offset: 0n, length: head },
    ...rest.map((offset) => {
      const left = size - offset;
      return { offset, length: left < blockBytes ? Number(left) : PLACE_BYTES };
    }),
  ];
}
