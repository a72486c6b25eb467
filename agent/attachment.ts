/** How the protected host gets at a volume. The kinds: loop_attachment.ts, nbd_attachment.ts, socket_attachment.ts. */
export interface Attachment {
  /** What the host uses: "/dev/loop3", "/dev/nbd3", "unix:/path", "tcp:127.0.0.1:10809". */
  readonly device: string;
  /** Who uses it now; null: nobody. Errors: PERMISSION_DENIED, IO_ERROR. */
  usedBy(): Promise<string | null>;
  /** The volume has `size` by now, and who uses it is to see that: at once, or when it connects again. Errors: DEVICE_RESIZE. */
  grow(size: bigint): Promise<void>;
  /**
   * Takes the volume away from the host. Production first: waits as long as somebody uses it, unless `end` aborts.
   */
  detach(end: AbortSignal): Promise<void>;
  /** The same if nobody uses it: what is left to be done then. Null: somebody does, and keeps it. */
  detachUnused(): Promise<(() => Promise<void>) | null>;
}
