/**
 * The prefix oracle: judges recovered images against nothing but what the writers saw (stamp_writer.py): which
 * operation each sector carries, and when each operation was submitted and acknowledged.
 *
 * An image set (one image per volume of the group) passes at time T when, for every sector,
 *  - what it carries was submitted by T, and
 *  - no operation on that sector that was acknowledged before T was submitted after what it carries was acknowledged
 *    (it would have had to overwrite it).
 * For a point named by LSN there is no T; prefix order (R1, R3) then says: everything that was acknowledged before the
 * latest-submitted operation that is visible anywhere in the set was submitted must be there as well. That is the same
 * test with T = the latest submission that is visible. A trim leaves no stamp: where zeroes cannot be explained up to a
 * T, the next one that was submitted there must have been visible too, which gives a later T. The set passes when the
 * least T that explains every sector exists.
 */
import { readFile } from 'node:fs/promises';
const SECTOR = 512;
/** Words of 32 bits: magic, volume, sector and operation are two each, and the operation's are the last two too. */
const WORDS = SECTOR / 4;
const MAGIC_LOW = 0x534f4741;
const MAGIC_HIGH = 0x504d4154;
export async function readOperations(log) {
    const text = await readFile(log, 'utf8');
    return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => {
        const raw = JSON.parse(line);
        return { ...raw, submitNs: BigInt(raw.submitNs), ackNs: BigInt(raw.ackNs) };
    });
}
const VIOLATIONS_SHOWN = 10;
/** Of the operations on a sector: its beginning, and whatever stands there that is not theirs. */
const NEVER = -1;
const UNKNOWN = -2;
export class Oracle {
    /** In order of submission; what is called an operation from here on is its index in that order. */
    operations;
    submit;
    answer;
    beginNs;
    byNumber = new Map();
    sectors;
    constructor(operations, volumeBytes) {
        this.operations = [...operations].sort((a, b) => a.submitNs < b.submitNs ? -1 : Number(a.submitNs > b.submitNs));
        this.beginNs = this.operations[0]?.submitNs ?? 0n;
        this.submit = Float64Array.from(this.operations, ({ submitNs }) => this.since(submitNs));
        this.answer = Float64Array.from(this.operations, ({ ackNs }) => this.since(ackNs));
        this.operations.forEach(({ op }, index) => this.byNumber.set(op, index));
        this.sectors = volumeBytes.map((bytes, volume) => new SectorHistory(this.operations, volume, bytes));
    }
    /** How many operations overlapped another one on that volume while both were in flight: R2 is tested by these. */
    overlapsInFlight(volume) {
        let count = 0;
        const open = [];
        for (const operation of this.operations) {
            if (operation.length === 0 || operation.volume !== volume)
                continue;
            for (let i = open.length - 1; i >= 0; i -= 1) {
                if (open[i].ackNs < operation.submitNs)
                    open.splice(i, 1);
            }
            const end = operation.offset + operation.length;
            if (open.some((o) => o.offset < end && operation.offset < o.offset + o.length))
                count += 1;
            open.push(operation);
        }
        return count;
    }
    /** Judges the images of one point. `timeNs`: the point's time if it was named by time, else null. */
    judge(images, timeNs) {
        const violations = [];
        const report = (text) => {
            if (violations.length < VIOLATIONS_SHOWN)
                violations.push(text);
        };
        let visible = 0;
        let sectorsWritten = 0;
        const carried = images.map((image, volume) => {
            const sectors = this.carriedBy(image, volume, report);
            for (const operation of sectors) {
                if (operation < 0)
                    continue;
                sectorsWritten += 1;
                visible = Math.max(visible, this.submit[operation]);
            }
            return sectors;
        });
        let until = timeNs === null ? visible : this.since(timeNs);
        if (timeNs === null) {
            for (let next = this.raised(carried, until); next > until; next = this.raised(carried, until))
                until = next;
        }
        carried.forEach((sectors, volume) => {
            sectors.forEach((operation, sector) => this.judgeSector(volume, sector, operation, until, report));
        });
        return { violations, sectorsWritten, visibleNs: this.beginNs + BigInt(until) };
    }
    since(ns) {
        return Number(ns - this.beginNs);
    }
    /** The least T from `until` on that trims leave possible, for every sector of zeroes that is unexplained so far. */
    raised(carried, until) {
        let raised = until;
        carried.forEach((sectors, volume) => {
            sectors.forEach((operation, sector) => {
                if (operation !== NEVER)
                    return;
                const all = this.sectors[volume]?.of(sector) ?? [];
                if (this.lostFrom(all, this.zeroedBy(all, until), until) === NEVER)
                    return;
                const later = all.find((o) => this.submit[o] > until && this.operations[o]?.kind !== 'write');
                if (later !== undefined)
                    raised = Math.max(raised, this.submit[later]);
            });
        });
        return raised;
    }
    /** By sector, the write whose stamp it carries; NEVER for a sector of zeroes. */
    carriedBy(image, volume, report) {
        const isAligned = image.byteOffset % 4 === 0;
        const bytes = isAligned ? image : new Uint8Array(image);
        const words = new Uint32Array(bytes.buffer, bytes.byteOffset, image.length / 4);
        const carried = new Int32Array(image.length / SECTOR);
        for (let sector = 0; sector < carried.length; sector += 1) {
            const at = sector * WORDS;
            carried[sector] = UNKNOWN;
            if (words[at] !== MAGIC_LOW || words[at + 1] !== MAGIC_HIGH) {
                if (isZero(words, at))
                    carried[sector] = NEVER;
                else
                    report(`volume ${volume} sector ${sector}: neither a stamp nor zeroes`);
                continue;
            }
            const number = words[at + 6];
            const operation = this.byNumber.get(number);
            const isOwn = words[at + 2] === volume && words[at + 4] === sector;
            if (operation === undefined || !isOwn || words[at + 3] + words[at + 5] > 0)
                report(`volume ${volume} sector ${sector}: the stamp of another place, or of nobody`);
            else if (words[at + WORDS - 2] !== number)
                report(`volume ${volume} sector ${sector}: begins as operation ${number} and ends as another`);
            else
                carried[sector] = operation;
        }
        return carried;
    }
    judgeSector(volume, sector, carried, until, report) {
        if (carried === UNKNOWN)
            return; // told already
        const where = `volume ${volume} sector ${sector}`;
        const number = this.operations[carried]?.op ?? 'zeroes';
        const early = (this.submit[carried] ?? 0) - until;
        if (early > 0)
            report(`${where}: operation ${number} was submitted ${early} ns after the point`);
        const all = this.sectors[volume]?.of(sector) ?? [];
        const lost = this.lostFrom(all, carried === NEVER ? this.zeroedBy(all, until) : carried, until);
        if (lost === NEVER)
            return;
        const { kind, op } = this.operations[lost];
        report(`${where}: carries ${number}, but ${kind} ${op} was acknowledged before the point`);
    }
    /** Of whose zeroes a sector may carry, the one that was answered last: the beginning, or a trim submitted by then. */
    zeroedBy(all, until) {
        let last = NEVER;
        for (let i = 0; i < all.length && this.submit[all[i]] <= until; i += 1) {
            const each = all[i];
            if (this.operations[each]?.kind === 'write')
                continue;
            if (last === NEVER || this.answer[each] > this.answer[last])
                last = each;
        }
        return last;
    }
    /** An operation that was acknowledged before `until`, and had to overwrite `carried`; NEVER: there is none. */
    lostFrom(all, carried, until) {
        const behind = carried === NEVER ? -Infinity : this.answer[carried];
        for (let i = all.length - 1; i >= 0 && this.submit[all[i]] > behind; i -= 1) {
            const each = all[i];
            if (this.answer[each] < until && this.operations[each]?.isFailed !== true)
                return each;
        }
        return NEVER;
    }
}
/** The operations that changed each sector of one volume, in order of submission. */
class SectorHistory {
    /** Of sector s are those in [begins[s], begins[s + 1]) of `operations`. */
    begins;
    operations;
    constructor(operations, volume, bytes) {
        const sectors = bytes / SECTOR;
        const ends = new Uint32Array(sectors + 1);
        const each = (visit) => operations.forEach((operation, index) => {
            if (operation.volume !== volume)
                return;
            const first = operation.offset / SECTOR;
            for (let i = 0; i < operation.length / SECTOR; i += 1)
                visit(first + i, index);
        });
        each((sector) => {
            ends[sector + 1] = ends[sector + 1] + 1;
        });
        for (let i = 1; i <= sectors; i += 1)
            ends[i] = ends[i] + ends[i - 1];
        this.begins = ends.slice();
        this.operations = new Uint32Array(ends[sectors]);
        each((sector, operation) => {
            const at = ends[sector];
            this.operations[at] = operation;
            ends[sector] = at + 1;
        });
    }
    of(sector) {
        return this.operations.subarray(this.begins[sector], this.begins[sector + 1]);
    }
}
function isZero(words, begin) {
    for (let at = begin; at < begin + WORDS; at += 1)
        if (words[at] !== 0)
            return false;
    return true;
}
//# sourceMappingURL=oracle.js.map