import { byteCountAt } from './byte_count.js';
import { claim } from './contradiction.js';
import { crc32c } from './crc32c.js';
import { preambleFault } from './preamble.js';
import { uuidAt } from './uuid.js';
import { areZero } from './zeroes.js';
const RUN_HEADER_BYTES = 128;
const SEGMENT_ENTRY_BYTES = 40;
const VOLUME_ENTRY_BYTES = 40;
const FENCE_ENTRY_BYTES = 16;
const EXTENT_BYTES = 16;
const PAGE_BYTES = 4096;
const PAGE_EXTENTS = PAGE_BYTES / EXTENT_BYTES;
const SEGMENTS_MAX = 262_144;
const VOLUMES_MAX = 64;
/** Parses and checks a whole run; throws Contradiction. */
export function parseRun(file) {
    claim(file.length >= RUN_HEADER_BYTES, 'run is shorter than its header');
    claim(crc32c(file.subarray(0, 124)) === file.readUInt32LE(124), 'run header_crc32c is wrong');
    const fault = preambleFault(file, 'AFTRUNIX', RUN_HEADER_BYTES);
    claim(fault === null, `run: ${fault ?? ''}`);
    const segmentCount = file.readUInt32LE(64);
    const volumeCount = file.readUInt32LE(68);
    const pageCount = byteCountAt(file, 72);
    const pagesOffset = byteCountAt(file, 80);
    claim(segmentCount >= 1 && segmentCount <= SEGMENTS_MAX, `run of ${segmentCount} segments`);
    claim(volumeCount <= VOLUMES_MAX, `run of ${volumeCount} volumes`);
    const volumesOffset = RUN_HEADER_BYTES + SEGMENT_ENTRY_BYTES * segmentCount;
    const fenceOffset = volumesOffset + VOLUME_ENTRY_BYTES * volumeCount;
    const tablesEnd = fenceOffset + FENCE_ENTRY_BYTES * pageCount;
    claim(pagesOffset === Math.ceil(tablesEnd / PAGE_BYTES) * PAGE_BYTES, 'pages_offset does not add up');
    claim(byteCountAt(file, 88) === pagesOffset + PAGE_BYTES * pageCount, 'file_bytes does not add up');
    claim(file.length === pagesOffset + PAGE_BYTES * pageCount, 'run does not have file_bytes bytes');
    claim(crc32c(file.subarray(RUN_HEADER_BYTES, tablesEnd)) === file.readUInt32LE(96), 'tables_crc32c is wrong');
    claim(areZero(file.subarray(tablesEnd, pagesOffset)), 'padding before the pages is not zero');
    const segments = [];
    for (let at = RUN_HEADER_BYTES; at < volumesOffset; at += SEGMENT_ENTRY_BYTES)
        segments.push(parseRunSegment(file, at));
    const pages = new RunPages(file.subarray(fenceOffset, tablesEnd), file.subarray(pagesOffset));
    const volumes = [];
    for (let at = volumesOffset; at < fenceOffset; at += VOLUME_ENTRY_BYTES)
        volumes.push(parseRunVolume(file, at, pages));
    claim(pages.taken === pageCount, 'page_count is not the sum of the volumes');
    const numbers = volumes.map(({ number }) => number);
    claim(numbers.every((number, index) => index === 0 || number > (numbers[index - 1] ?? 0)), 'volumes are not sorted');
    for (const extent of volumes.flatMap(({ extents }) => extents))
        claim(extent.segment < segmentCount, 'extent names a segment that the run lacks');
    const firstLsn = file.readBigUInt64LE(48);
    const lastLsn = file.readBigUInt64LE(56);
    claim(segments[0]?.firstLsn === firstLsn, 'first_lsn is not that of the first segment');
    claim(segments.at(-1)?.lastLsn === lastLsn, 'last_lsn is not that of the last segment');
    return { group: uuidAt(file, 16), member: uuidAt(file, 32), firstLsn, lastLsn, segments, volumes };
}
function parseRunSegment(file, at) {
    return {
        firstLsn: file.readBigUInt64LE(at),
        lastLsn: file.readBigUInt64LE(at + 8),
        generation: file.readBigUInt64LE(at + 16),
        bytes: byteCountAt(file, at + 24),
        link: file.readUInt32LE(at + 32),
    };
}
function parseRunVolume(file, at, pages) {
    const number = file.readUInt16LE(at);
    const pageCount = file.readUInt32LE(at + 4);
    const entryCount = byteCountAt(file, at + 16);
    claim(number <= 63, `volume number ${number} is above 63`);
    claim(entryCount > 0, `volume ${number} has no entries`);
    claim(pageCount === Math.ceil(entryCount / PAGE_EXTENTS), `page_count of volume ${number} does not add up`);
    claim(byteCountAt(file, at + 8) === pages.taken, `first_page of volume ${number} is not behind the pages before`);
    const extents = [];
    while (extents.length < entryCount)
        extents.push(...pages.take(Math.min(PAGE_EXTENTS, entryCount - extents.length)));
    let end = 0;
    for (const { start, length } of extents) {
        claim(start >= end, `extents of volume ${number} overlap or are not sorted`);
        end = start + length;
    }
    return { number, uuid: uuidAt(file, at + 24), extents };
}
/** The pages of a run with their fence, in order. */
class RunPages {
    #fence;
    #pages;
    taken = 0;
    constructor(fence, pages) {
        this.#fence = fence;
        this.#pages = pages;
    }
    /** The count extents of the next page. */
    take(count) {
        const fenceAt = FENCE_ENTRY_BYTES * this.taken;
        claim(fenceAt < this.#fence.length, 'volumes have more pages than the run');
        const page = this.#pages.subarray(PAGE_BYTES * this.taken, PAGE_BYTES * (this.taken + 1));
        claim(crc32c(page) === this.#fence.readUInt32LE(fenceAt + 8), `crc32c of page ${this.taken} is wrong`);
        claim(areZero(page.subarray(EXTENT_BYTES * count)), `unused places of page ${this.taken} are not zero`);
        const extents = [];
        for (let index = 0; index < count; index++)
            extents.push(parseExtent(page, EXTENT_BYTES * index));
        claim(byteCountAt(this.#fence, fenceAt) === extents[0]?.start, `fence of page ${this.taken} is not its start`);
        this.taken++;
        return extents;
    }
}
function parseExtent(page, at) {
    const range = page.readBigUInt64LE(at);
    const source = page.readBigUInt64LE(at + 8);
    const bits = (word, first, count) => Number(BigInt.asUintN(count, word >> BigInt(first)));
    const extent = {
        start: bits(range, 24, 40),
        length: bits(range, 0, 24),
        segment: bits(source, 46, 18),
        frame: bits(source, 23, 23) * 8,
        record: bits(source, 11, 12),
        recordSector: bits(source, 0, 11),
    };
    claim(extent.length > 0, 'extent of no sectors');
    claim(extent.frame > 0 || (extent.record === 0 && extent.recordSector === 0), 'zero extent names a record');
    return extent;
}
//# sourceMappingURL=run.js.map