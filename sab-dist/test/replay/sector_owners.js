import { claim } from './contradiction.js';
import { coalesced } from './extent.js';
import { SECTOR_BYTES } from './record.js';
/** Four bytes of memory for each of them: a reader for tests, of small volumes. */
const SECTORS_MAX = 2 ** 28;
/** Which record set each sector of one volume last: one array element per sector. */
export class SectorOwners {
    /** Index into owners plus 1; 0: not set. */
    #ownerOf = new Uint32Array(0);
    #owners = [];
    /** Gives length bytes at offset to owner. */
    set(offset, length, owner) {
        const end = (offset + length) / SECTOR_BYTES;
        claim(end <= SECTORS_MAX, 'volume is too large for this reader');
        if (end > this.#ownerOf.length) {
            const larger = new Uint32Array(Math.min(SECTORS_MAX, end * 2));
            larger.set(this.#ownerOf);
            this.#ownerOf = larger;
        }
        this.#owners.push(owner);
        this.#ownerOf.fill(this.#owners.length, offset / SECTOR_BYTES, end);
    }
    /** Sorted and as coarse as can be. */
    extents() {
        const extents = [];
        let start = 0;
        for (let sector = 1; sector <= this.#ownerOf.length; sector++) {
            const owned = this.#ownerOf[start] ?? 0;
            if (sector < this.#ownerOf.length && this.#ownerOf[sector] === owned)
                continue;
            const owner = this.#owners[owned - 1];
            if (owner !== undefined) {
                const { offset, ...source } = owner;
                const recordSector = source.frame === 0 ? 0 : start - offset / SECTOR_BYTES;
                extents.push({ start, length: sector - start, ...source, recordSector });
            }
            start = sector;
        }
        return coalesced(extents);
    }
}
//# sourceMappingURL=sector_owners.js.map