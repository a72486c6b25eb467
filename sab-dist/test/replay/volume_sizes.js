import { claim } from './contradiction.js';
/** The size in bytes of every volume of a member, record after record. */
export class VolumeSizes {
    #bytes = new Map();
    /** Takes over the sizes of volumes not seen before; those known must be what the records made them. */
    enter(header) {
        for (const { number, size } of header.volumes) {
            const known = this.#bytes.get(number) ?? size;
            claim(known === size, `header gives volume ${number} ${size} bytes, the records before it ${known}`);
            this.#bytes.set(number, size);
        }
    }
    /** Applies a record of a volume. Returns the volume's size before and after it. */
    apply(record) {
        const before = this.#bytes.get(record.volume);
        claim(before !== undefined, `volume ${record.volume} is in no segment header`);
        const isSizing = record.kind === 'resize' || record.kind === 'membership';
        const after = isSizing ? record.offset : before;
        claim(record.offset + record.length <= after, `${record.kind} exceeds volume ${record.volume}`);
        this.#bytes.set(record.volume, after);
        return { before, after };
    }
}
export function hasVolume(record) {
    return record.volume !== null;
}
//# sourceMappingURL=volume_sizes.js.map