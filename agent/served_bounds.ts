/** Bounds of what is served, for those who read a configuration and for those who must not wait for one. */

/** native/capture/capture_ring.h, kRingBytesMin: less could not hold two frames and a record. */
export const RING_BYTES_MIN = 8n << 20n;
export const FUSE_THREADS_MAX = 16;
/** How long nobody must have written to an extent for it not to be in doubt any more, where nothing says otherwise. */
export const UNMARK_AFTER_MS = 60_000;
