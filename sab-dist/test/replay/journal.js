import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { claim, Contradiction } from './contradiction.js';
import { readSegment } from './segment.js';
/** Names of a member's files with this suffix, in the order of their LSNs. */
export async function journalFiles(directory, suffix) {
    const names = (await readdir(join(directory, 'journal'))).filter((name) => name.endsWith(suffix)).sort();
    for (const name of names)
        claim(/^\d{20}$/.test(basename(name, suffix)), `${name} is not named for an LSN`);
    return names;
}
export function journalFileName(firstLsn, suffix) {
    return `${String(firstLsn).padStart(20, '0')}${suffix}`;
}
/**
 * The segments of a member in order, each checked whole and against the one before. One may end in bytes that are
 * no frames if it is the last, or if the next one goes on where its frames end; else they are a Contradiction.
 */
export async function* readJournal(directory) {
    const names = await journalFiles(directory, '.seg');
    const uuids = new Map();
    let before = null;
    for (const name of names) {
        try {
            const segment = await readSegmentFile(directory, name, before);
            if (before !== null)
                checkNeighbours(before, segment);
            checkUuids(uuids, segment, before);
            yield segment;
            before = segment;
        }
        catch (error) {
            if (!(error instanceof Contradiction))
                throw error;
            throw new Contradiction(`${name}: ${error.message}`, { cause: error });
        }
    }
}
/** Reads one segment and checks it against its path. before is the segment before it, if that is known. */
export async function readSegmentFile(directory, name, before) {
    const segment = readSegment(await readFile(join(directory, 'journal', name)), before?.end ?? null);
    const { header } = segment;
    claim(journalFileName(header.firstLsn, '.seg') === name, 'segment is not named for its first LSN');
    claim(header.member === basename(directory), 'segment lies below another member');
    claim(header.group === basename(dirname(directory)), 'segment lies below another group');
    return segment;
}
function checkNeighbours(before, { header }) {
    claim(header.generation >= before.header.generation, 'generation falls');
    const goesOn = header.generation === before.header.generation && header.firstLsn === before.end.nextLsn;
    claim(before.fault === null || goesOn, `damage before the segment: ${before.fault ?? ''}`);
    if (header.generation === before.header.generation) {
        claim(header.firstLsn === before.end.nextLsn, 'records are missing before the segment');
        claim(header.link === before.end.link, 'link is not the CRC of the last frame before the segment');
    }
    else {
        claim(header.firstLsn >= before.end.nextLsn, 'first LSN of a generation is not above the one before');
        claim(header.link === 0, 'link of the first segment of a generation is not 0');
    }
}
/** A number means the same volume everywhere, and a volume that joins begins a generation. */
function checkUuids(uuids, { header }, before) {
    for (const { number, uuid } of header.volumes) {
        const known = uuids.get(number);
        claim(known === undefined || known === uuid, `volume ${number} is another volume than before`);
        const mayJoin = before === null || header.generation > before.header.generation;
        claim(known !== undefined || mayJoin, `volume ${number} joins within a generation`);
        uuids.set(number, uuid);
    }
}
//# sourceMappingURL=journal.js.map