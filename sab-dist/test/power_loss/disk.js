import { FileContent } from './file_content.js';
import { Names } from './names.js';
export class Disk {
    existing;
    static count = 0;
    id = (Disk.count += 1);
    files = new Map();
    names = new Names();
    events;
    next = 0;
    /** `existing`: what the files held, by path, that were there before anything was recorded. It is changed. */
    constructor(operations, existing = new Map()) {
        this.existing = existing;
        this.events = operations
            .flatMap((operation) => [
            { moment: operation.begin, ns: operation.beginNs, operation, isEnd: false },
            { moment: operation.end, ns: operation.endNs, operation, isEnd: true },
        ])
            .sort((left, right) => left.moment - right.moment);
    }
    /** Everything up to and including `moment` has happened. Moments only rise. */
    advance(moment) {
        for (let event = this.events[this.next]; event !== undefined; event = this.events[this.next]) {
            if (event.moment > moment)
                return;
            this.happen(event);
            this.next += 1;
        }
    }
    /** When the next moment came, nanoseconds of CLOCK_MONOTONIC; null: there is none. Until then all is as it is now. */
    get untilNs() {
        return this.events[this.next]?.ns ?? null;
    }
    /** What may be there or not, in the order in which it began. */
    uncertain() {
        const tree = this.names.choose(() => true);
        const named = new Set(tree.values());
        const contents = [...this.files]
            .filter(([number]) => named.has(number))
            .flatMap(([, file]) => file.uncertain)
            .sort((left, right) => left.begin - right.begin);
        return { names: this.names.uncertain, contents };
    }
    choose(choice) {
        const tree = this.names.choose((operation) => choice.hasName(operation));
        const directories = [];
        const files = [];
        for (const [path, number] of [...tree].sort(([left], [right]) => (left < right ? -1 : 1))) {
            if (number === null) {
                directories.push(path);
                continue;
            }
            const file = this.file(number);
            const { version, isCertain } = file;
            files.push({
                path,
                number,
                key: `${this.id} ${number}`,
                version,
                isCertain,
                content: () => file.choose(choice),
            });
        }
        return { directories, files };
    }
    happen({ operation, isEnd }) {
        const { kind, error, file } = operation;
        switch (kind) {
            case 'sync':
                if (isEnd)
                    this.file(file).sync(operation);
                return;
            case 'syncdir':
                if (isEnd)
                    this.names.sync(operation);
                return;
            case 'write':
            case 'truncate':
            case 'fallocate':
                if (!isEnd && error === 0)
                    this.file(file).apply(operation);
                return;
            case 'exists':
                if (isEnd)
                    return;
                this.names.exists(operation);
                if (file !== 0)
                    this.files.set(file, new FileContent(this.existing.get(operation.path)));
                return;
            case 'create':
            case 'mkdir':
            case 'rename':
            case 'unlink':
            case 'link':
            case 'rmdir':
                if (!isEnd && error === 0)
                    this.names.apply(operation);
        }
    }
    file(number) {
        let file = this.files.get(number);
        if (file === undefined) {
            file = new FileContent();
            this.files.set(number, file);
        }
        return file;
    }
}
//# sourceMappingURL=disk.js.map