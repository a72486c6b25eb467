export const SECTOR_BYTES = 512;
export class FileContent {
    bytes;
    /** Of the certain content: `bytes` may have room behind it. */
    certainSize;
    liveSize;
    changes = [];
    edition = 0;
    /** `bytes`: what it held before anything was done. */
    constructor(bytes = Buffer.alloc(0)) {
        this.bytes = bytes;
        this.certainSize = bytes.length;
        this.liveSize = bytes.length;
    }
    /** Rises whenever a state of it may be another one than before. */
    get version() {
        return this.edition;
    }
    /** What is uncertain, in order. */
    get uncertain() {
        return this.changes.filter(({ isCertain }) => !isCertain).map(({ operation }) => operation);
    }
    get isCertain() {
        return this.changes.length === 0;
    }
    /** A write, truncation or allocation that has begun. */
    apply(operation) {
        const { kind, offset, length } = operation;
        const end = offset + length;
        const size = kind === 'truncate' ? offset : end > this.liveSize ? end : null;
        if (size !== null)
            this.liveSize = size;
        // An allocation within the file changes nothing that could be read.
        if (kind === 'fallocate' && size === null)
            return;
        this.changes.push({ operation, size, isCertain: false, isForsaken: false });
        this.edition += 1;
    }
    /** A sync that has ended. It covers what had ended before it began. */
    sync({ begin, error }) {
        const covered = this.changes.filter(({ operation }) => operation.end < begin);
        if (covered.length === 0)
            return;
        if (error !== 0) {
            for (const change of covered)
                change.isForsaken ||= !change.isCertain;
            return;
        }
        this.edition += 1;
        for (const change of covered)
            change.isCertain ||= !change.isForsaken;
        for (let change = this.changes[0]; change?.isCertain === true; change = this.changes[0]) {
            this.fold(change);
            this.changes.shift();
        }
    }
    /** The content with this choice. */
    choose(choice) {
        if (this.changes.length === 0)
            return this.bytes.subarray(0, this.certainSize);
        const lastSize = this.changes.findLastIndex(({ operation, size, isCertain }) => size !== null && (isCertain || choice.hasSize(operation)));
        const kept = this.changes.slice(0, lastSize + 1).filter(({ size }) => size !== null);
        const size = kept.at(-1)?.size ?? this.certainSize;
        const highest = kept.reduce((max, change) => Math.max(max, change.size ?? 0), this.certainSize);
        const content = Buffer.alloc(Math.max(size, highest, this.bytes.length));
        this.bytes.copy(content, 0, 0, this.certainSize);
        /** Of each sector, the last write that it shows: it shows those before it too. */
        const shown = new Map();
        this.changes.forEach(({ operation, isCertain }, index) => {
            if (operation.kind !== 'write')
                return;
            for (const sector of sectorsOf(operation)) {
                if (isCertain || choice.hasSector(operation, sector))
                    shown.set(sector, index);
            }
        });
        this.changes.forEach(({ operation, size: after }, index) => {
            if (operation.kind === 'truncate' && index <= lastSize)
                content.fill(0, after ?? 0);
            if (operation.kind !== 'write')
                return;
            const { offset, length, data } = operation;
            for (const sector of sectorsOf(operation)) {
                if ((shown.get(sector) ?? -1) < index)
                    continue;
                const from = Math.max(offset, sector * SECTOR_BYTES);
                const to = Math.min(offset + length, (sector + 1) * SECTOR_BYTES, content.length);
                if (from < to)
                    data.copy(content, from, from - offset, to - offset);
            }
        });
        return content.subarray(0, size);
    }
    /** Makes a change part of what is certain. */
    fold({ operation, size }) {
        const { kind, offset, data } = operation;
        if (size !== null) {
            if (size > this.bytes.length) {
                const grown = Buffer.alloc(Math.max(size, 2 * this.bytes.length));
                this.bytes.copy(grown);
                this.bytes = grown;
            }
            // What is cut off reads as zero should the file grow again.
            if (size < this.certainSize)
                this.bytes.fill(0, size, this.certainSize);
            this.certainSize = size;
        }
        if (kind === 'write')
            data.copy(this.bytes, offset);
    }
}
export function* sectorsOf({ offset, length }) {
    const last = Math.ceil((offset + length) / SECTOR_BYTES);
    for (let sector = Math.floor(offset / SECTOR_BYTES); sector < last; sector += 1)
        yield sector;
}
//# sourceMappingURL=file_content.js.map