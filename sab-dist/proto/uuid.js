/** UUIDs: 16 bytes in messages and files, text in paths, catalogs and everything that people read. */
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** The 16 bytes as lower-case text with hyphens (RFC 9562). A wrong length is the caller's mistake. */
export function formatUuid(bytes) {
    if (bytes.length !== 16)
        throw new RangeError(`a UUID has 16 bytes, not ${bytes.length}`);
    const hex = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
/** The 16 bytes of a UUID as formatUuid gives it. */
export function parseUuid(text) {
    if (!UUID.test(text))
        throw new RangeError(`not a UUID: ${text}`);
    return Buffer.from(text.replaceAll('-', ''), 'hex');
}
//# sourceMappingURL=uuid.js.map