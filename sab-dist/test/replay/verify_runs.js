import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { claim, Contradiction } from './contradiction.js';
import { coalesced, describeExtent } from './extent.js';
import { journalFileName, journalFiles, readSegmentFile } from './journal.js';
import { parseRun } from './run.js';
import { SegmentExtents } from './segment_extents.js';
/** Of one volume in one run; more would bury the first. */
const DIFFERENCES_MAX = 20;
/**
 * Compares every run of a member with the extents computed record by record from its segments. Returns the
 * differences as text, each with the name of its run; a run that cannot be read, or that a reader would have to
 * ignore as stale, is one. A segment without a run is none.
 */
export async function verifyRuns(directory) {
    const segmentNames = await journalFiles(directory, '.seg');
    const differences = [];
    for (const name of await journalFiles(directory, '.run')) {
        try {
            const found = await runDifferences(directory, name, segmentNames);
            differences.push(...found.map((difference) => `${name}: ${difference}`));
        }
        catch (error) {
            if (!(error instanceof Contradiction))
                throw error;
            differences.push(`${name}: ${error.message}`);
        }
    }
    return differences;
}
async function runDifferences(directory, name, segmentNames) {
    const run = parseRun(await readFile(join(directory, 'journal', name)));
    claim(journalFileName(run.firstLsn, '.run') === name, 'run is not named for its first LSN');
    claim(run.member === basename(directory), 'run lies below another member');
    claim(run.group === basename(dirname(directory)), 'run lies below another group');
    const firstIndex = segmentNames.indexOf(journalFileName(run.firstLsn, '.seg'));
    claim(firstIndex >= 0, 'run has no segment of its name');
    const extents = new SegmentExtents();
    const uuids = new Map();
    let before = null;
    for (const [ordinal, expected] of run.segments.entries()) {
        const segmentName = segmentNames[firstIndex + ordinal];
        claim(segmentName !== undefined, `segment ${ordinal} of the run is not in the journal`);
        const segment = await readSegmentFile(directory, segmentName, before);
        checkIdentity(expected, segment, ordinal);
        extents.add(segment, ordinal);
        for (const { number, uuid } of segment.header.volumes)
            uuids.set(number, uuid);
        before = segment;
    }
    const differences = [];
    const expected = extents.extents();
    for (const { number, uuid, extents: found } of run.volumes) {
        if (uuids.get(number) !== uuid)
            differences.push(`volume ${number} has uuid ${uuid}`);
        differences.push(...extentDifferences(number, expected.get(number) ?? [], coalesced(found)));
        expected.delete(number);
    }
    for (const [number, missing] of expected)
        differences.push(...extentDifferences(number, missing, []));
    return differences;
}
function checkIdentity(expected, segment, ordinal) {
    claim(segment.isSealed, `segment ${ordinal} of the run is not sealed`);
    const { header, fileBytes, end } = segment;
    const isSame = expected.firstLsn === header.firstLsn &&
        expected.lastLsn === end.nextLsn - 1n &&
        expected.generation === header.generation &&
        expected.bytes === fileBytes &&
        expected.link === end.link;
    claim(isSame, `run is stale: its segment ${ordinal} is not the one in the journal`);
}
function extentDifferences(volume, expected, found) {
    const missing = new Set(expected.map(describeExtent));
    const surplus = new Set(found.map(describeExtent));
    const same = new Set([...missing].filter((extent) => surplus.has(extent)));
    const differences = [
        ...[...missing].filter((extent) => !same.has(extent)).map((extent) => `volume ${volume} lacks ${extent}`),
        ...[...surplus].filter((extent) => !same.has(extent)).map((extent) => `volume ${volume} has ${extent}`),
    ];
    const more = differences.length - DIFFERENCES_MAX;
    return more > 0
        ? [...differences.slice(0, DIFFERENCES_MAX), `volume ${volume}: ${more} more`]
        : differences;
}
//# sourceMappingURL=verify_runs.js.map