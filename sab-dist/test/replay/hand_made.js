import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32c } from './crc32c.js';
/*
 * Writes journals from the tables of docs/FORMAT.md, with any field forced to any value. It shares only the CRC
 * with the reader under test.
 */
export const GROUP = '6f1c1d52-9a3e-4a51-8a40-0123456789ab';
export const MEMBER = '1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed';
export const VOLUME_UUIDS = ['00112233-4455-6677-8899-aabbccddeeff', 'ffeeddcc-bbaa-9988-7766-554433221100'];
const KIND_NUMBERS = { write: 1, zero: 2, flush: 3, resize: 4, clock: 5, membership: 6, void: 7 };
/** Makes segments that follow each other: LSNs, links and times go on. */
export class HandMade {
    lsn = 1n;
    link = 0;
    timeNs = 1700000000000000000n;
    generation = 1n;
    /** Offsets of the frames of the last segment made. */
    positions = [];
    segment({ generation = this.generation, sizes = [8192], frames, headerPatches = [] }) {
        if (generation !== this.generation)
            this.link = 0;
        this.generation = generation;
        const header = Buffer.alloc(4096);
        structure(header, 'AFTSEGMT', 4096);
        uuid(header, 16, GROUP);
        uuid(header, 32, MEMBER);
        header.writeBigUInt64LE(generation, 48);
        header.writeBigUInt64LE(this.lsn, 56);
        header.writeUInt32LE(this.link, 64);
        header.writeUInt32LE(sizes.length, 68);
        sizes.forEach((size, number) => {
            const at = 96 + 32 * number;
            header.writeUInt16LE(number, at);
            header.writeUInt32LE(512, at + 4);
            uuid(header, at + 8, VOLUME_UUIDS[number] ?? '');
            header.writeBigUInt64LE(BigInt(size), at + 24);
        });
        apply(headerPatches, header);
        seal(header, 4092);
        const parts = [header];
        this.positions = [];
        for (const frame of frames) {
            this.positions.push(parts.reduce((sum, part) => sum + part.length, 0));
            parts.push(this.frame(frame));
        }
        return Buffer.concat(parts);
    }
    frame({ records, chunks, epoch = 1n, era = 1, headerPatches = [], tablePatches = [] }) {
        const firstTimeNs = records[0]?.timeNs ?? this.timeNs + 1n;
        const recordTable = Buffer.alloc(32 * records.length);
        const payloads = [];
        let rawBytes = 0;
        records.forEach(({ kind, volume = 0, offset = 0, length = 0, data, timeNs = this.timeNs + 1n }, index) => {
            const entry = recordTable.subarray(32 * index);
            entry.writeUInt8(KIND_NUMBERS[kind], 0);
            entry.writeUInt16LE(volume, 2);
            entry.writeUInt32LE(data?.length ?? length, 4);
            entry.writeBigUInt64LE(BigInt(offset), 8);
            entry.writeBigUInt64LE(timeNs, 16);
            if (data !== undefined) {
                entry.writeUInt32LE(rawBytes, 24);
                payloads.push(data);
                rawBytes += data.length;
            }
            this.timeNs = timeNs;
        });
        const raw = Buffer.concat(payloads);
        const made = chunks ?? payloads.map(({ length }) => ({ rawBytes: length, block: null }));
        const chunkTable = Buffer.alloc(16 * made.length);
        const stored = [];
        let rawOffset = 0;
        let storedOffset = 0;
        made.forEach(({ rawBytes: chunkBytes, block }, index) => {
            const bytes = block ?? raw.subarray(rawOffset, rawOffset + chunkBytes);
            chunkTable.writeUInt32LE(rawOffset, 16 * index);
            chunkTable.writeUInt32LE(storedOffset, 16 * index + 4);
            chunkTable.writeUInt32LE(bytes.length + (block === null ? 0x8000_0000 : 0), 16 * index + 8);
            chunkTable.writeUInt32LE(crc32c(bytes), 16 * index + 12);
            stored.push(bytes);
            rawOffset += chunkBytes;
            storedOffset += bytes.length;
        });
        const tables = Buffer.concat([recordTable, chunkTable]);
        apply(tablePatches, tables);
        const unpadded = Buffer.concat([Buffer.alloc(160), tables, ...stored]);
        const frame = Buffer.concat([unpadded, Buffer.alloc(-unpadded.length & 7)]);
        structure(frame, 'AFTFRAME', 160);
        uuid(frame, 16, GROUP);
        uuid(frame, 32, MEMBER);
        frame.writeBigUInt64LE(epoch, 48);
        frame.writeBigUInt64LE(this.generation, 56);
        frame.writeBigUInt64LE(this.lsn, 64);
        frame.writeBigUInt64LE(this.lsn + BigInt(records.length - 1), 72);
        frame.writeBigUInt64LE(firstTimeNs, 80);
        frame.writeBigUInt64LE(this.timeNs, 88);
        frame.writeUInt32LE(era, 96);
        frame.writeUInt32LE(records.length, 100);
        frame.writeUInt32LE(made.length, 104);
        frame.writeUInt16LE(1, 108);
        frame.writeUInt32LE(rawBytes, 112);
        frame.writeUInt32LE(storedOffset, 116);
        frame.writeUInt32LE(frame.length, 120);
        frame.writeUInt32LE(this.link, 124);
        frame.writeUInt32LE(crc32c(tables), 128);
        apply(headerPatches, frame);
        seal(frame, 156);
        this.link = frame.readUInt32LE(156);
        this.lsn += BigInt(records.length);
        return frame;
    }
}
/** A run over these segments, with these extents per volume. */
export function makeRun(segments, volumes) {
    const segmentTable = Buffer.alloc(40 * segments.length);
    let lastLsn = 0n;
    segments.forEach((segment, index) => {
        let link = 0;
        for (let at = 4096; at < segment.length; at += segment.readUInt32LE(at + 120)) {
            lastLsn = segment.readBigUInt64LE(at + 72);
            link = segment.readUInt32LE(at + 156);
        }
        segmentTable.writeBigUInt64LE(segment.readBigUInt64LE(56), 40 * index);
        segmentTable.writeBigUInt64LE(lastLsn, 40 * index + 8);
        segmentTable.writeBigUInt64LE(segment.readBigUInt64LE(48), 40 * index + 16);
        segmentTable.writeBigUInt64LE(BigInt(segment.length), 40 * index + 24);
        segmentTable.writeUInt32LE(link, 40 * index + 32);
    });
    const volumeTables = [];
    const fence = [];
    const pages = [];
    volumes.forEach((extents, number) => {
        if (extents.length === 0)
            return;
        const entry = Buffer.alloc(40);
        entry.writeUInt16LE(number, 0);
        entry.writeUInt32LE(Math.ceil(extents.length / 256), 4);
        entry.writeBigUInt64LE(BigInt(pages.length), 8);
        entry.writeBigUInt64LE(BigInt(extents.length), 16);
        uuid(entry, 24, VOLUME_UUIDS[number] ?? '');
        volumeTables.push(entry);
        for (let first = 0; first < extents.length; first += 256) {
            const page = makePage(extents.slice(first, first + 256));
            const fenceEntry = Buffer.alloc(16);
            fenceEntry.writeBigUInt64LE(BigInt(extents[first]?.start ?? 0), 0);
            fenceEntry.writeUInt32LE(crc32c(page), 8);
            fence.push(fenceEntry);
            pages.push(page);
        }
    });
    const tables = Buffer.concat([segmentTable, ...volumeTables, ...fence]);
    const pagesOffset = (128 + tables.length + 4095) & ~4095;
    const header = Buffer.alloc(128);
    structure(header, 'AFTRUNIX', 128);
    uuid(header, 16, GROUP);
    uuid(header, 32, MEMBER);
    header.writeBigUInt64LE(segments[0]?.readBigUInt64LE(56) ?? 0n, 48);
    header.writeBigUInt64LE(lastLsn, 56);
    header.writeUInt32LE(segments.length, 64);
    header.writeUInt32LE(volumeTables.length, 68);
    header.writeBigUInt64LE(BigInt(pages.length), 72);
    header.writeBigUInt64LE(BigInt(pagesOffset), 80);
    header.writeBigUInt64LE(BigInt(pagesOffset + 4096 * pages.length), 88);
    header.writeUInt32LE(crc32c(tables), 96);
    seal(header, 124);
    const padding = Buffer.alloc(pagesOffset - 128 - tables.length);
    return Buffer.concat([header, tables, padding, ...pages]);
}
function makePage(extents) {
    const page = Buffer.alloc(4096);
    extents.forEach(({ start, length, segment = 0, frame = 0, record = 0, recordSector = 0 }, index) => {
        page.writeBigUInt64LE((BigInt(start) << 24n) | BigInt(length), 16 * index);
        const frameAndRecord = (BigInt(frame / 8) << 23n) | (BigInt(record) << 11n) | BigInt(recordSector);
        page.writeBigUInt64LE((BigInt(segment) << 46n) | frameAndRecord, 16 * index + 8);
    });
    return page;
}
/** Writes files below root, by first LSN. Returns the member's directory. */
export async function writeMember(root, segments, runs = new Map(), bases = []) {
    const directory = join(root, 'store/groups', GROUP, MEMBER);
    await mkdir(join(directory, 'journal'), { recursive: true });
    await mkdir(join(directory, 'base'), { recursive: true });
    const journalPath = (lsn) => join(directory, 'journal', String(lsn).padStart(20, '0'));
    for (const [lsn, bytes] of segments)
        await writeFile(`${journalPath(lsn)}.seg`, bytes);
    for (const [lsn, bytes] of runs)
        await writeFile(`${journalPath(lsn)}.run`, bytes);
    for (const [number, base] of bases.entries())
        await writeFile(join(directory, 'base', `${VOLUME_UUIDS[number] ?? ''}.img`), base);
    return directory;
}
function structure(bytes, magic, headerBytes) {
    bytes.write(magic, 0, 'latin1');
    bytes.writeUInt16LE(1, 8);
    bytes.writeUInt16LE(headerBytes, 10);
}
function uuid(bytes, at, text) {
    bytes.write(text.replaceAll('-', ''), at, 'hex');
}
function apply(patches, bytes) {
    for (const { at, size, value } of patches) {
        const word = Buffer.alloc(8);
        word.writeBigUInt64LE(BigInt(value));
        word.copy(bytes, at, 0, size);
    }
}
function seal(bytes, at) {
    bytes.writeUInt32LE(crc32c(bytes.subarray(0, at)), at);
}
//# sourceMappingURL=hand_made.js.map