const FLAGS_CRITICAL = 0xffff0000;
/**
 * The first 16 bytes of every structure: magic, version, size of the fixed header, flags. Returns what is wrong
 * with them, or null: what follows from it depends on the structure.
 */
export function preambleFault(header, magic, headerBytes) {
    if (header.toString('latin1', 0, 8) !== magic)
        return `magic is not ${magic}`;
    if (header.readUInt16LE(8) !== 1)
        return `version ${header.readUInt16LE(8)} is not known`;
    if (header.readUInt16LE(10) !== headerBytes)
        return `header_bytes is not ${headerBytes}`;
    if ((header.readUInt32LE(12) & FLAGS_CRITICAL) !== 0)
        return 'a critical flag is set that is not known';
    return null;
}
//# sourceMappingURL=preamble.js.map