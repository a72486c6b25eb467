/** Bounds of what is served, for those who read a configuration and for those who must not wait for one. */

/** native/capture/capture_ring.h, kRingBytesMin: less could not hold two frames and a record. */
export const RING_BYTES_MIN = 8n << 20n;
export const FUSE_THREADS_MAX = 16;
