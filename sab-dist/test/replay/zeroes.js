/** Whether every byte is zero; true for no bytes. */
export function areZero(bytes) {
    return bytes.equals(Buffer.alloc(bytes.length));
}
//# sourceMappingURL=zeroes.js.map