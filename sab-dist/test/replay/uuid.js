/** The UUID whose 16 bytes stand at offset, as RFC 9562 prints it: lower case, with hyphens. */
export function uuidAt(bytes, offset) {
    const hex = bytes.toString('hex', offset, offset + 16);
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
//# sourceMappingURL=uuid.js.map