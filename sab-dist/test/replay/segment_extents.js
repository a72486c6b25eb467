import { SectorOwners } from './sector_owners.js';
import { hasVolume, VolumeSizes } from './volume_sizes.js';
/** Who set which sector last in segments that follow each other, by number of the volume, computed record by record. */
export class SegmentExtents {
    #sizes = new VolumeSizes();
    #owners = new Map();
    add({ header, frames }, ordinal) {
        this.#sizes.enter(header);
        for (const frame of frames) {
            frame.records.forEach((record, index) => {
                if (!hasVolume(record))
                    return;
                const { before, after } = this.#sizes.apply(record);
                const { kind, offset, length } = record;
                const zero = { segment: ordinal, frame: 0, record: 0, offset };
                const owners = this.#ownersOf(record.volume);
                if (kind === 'write')
                    owners.set(offset, length, { ...zero, frame: frame.position, record: index });
                if (kind === 'zero')
                    owners.set(offset, length, zero);
                if (after < before)
                    owners.set(after, before - after, zero);
            });
        }
    }
    /** Of each volume of which any sector was set. */
    extents() {
        const all = [...this.#owners].map(([volume, owners]) => [volume, owners.extents()]);
        return new Map(all.filter(([, extents]) => extents.length > 0));
    }
    #ownersOf(volume) {
        const owners = this.#owners.get(volume) ?? new SectorOwners();
        this.#owners.set(volume, owners);
        return owners;
    }
}
//# sourceMappingURL=segment_extents.js.map