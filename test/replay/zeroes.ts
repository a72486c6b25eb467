/** Whether every byte is zero; true for no bytes. */
export function areZero(bytes: Buffer): boolean {
  return bytes.equals(Buffer.alloc(bytes.length));
}
