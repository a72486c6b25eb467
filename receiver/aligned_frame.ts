/** Where the journal reads a frame's tables, in place: at a multiple of this (native/journal/frame.h). */
const FRAME_ALIGNMENT = 8;

/** The frame itself, or a copy of it that begins where the journal takes it. Large ones come so (message_assembly.ts). */
export function alignedFrame(frame: Buffer): Buffer {
  if (frame.byteOffset % FRAME_ALIGNMENT === 0) return frame;
  const copy = Buffer.allocUnsafeSlow(frame.length);
  frame.copy(copy);
  return copy;
}
