/**
 * The names in a directory tree as a disk may hold them. A change is certain once an fsync of the directory that holds the
 * name, begun after it, has succeeded; until then it may be there or not, whatever the others are. A rename is there as
 * a whole or not at all. That an fsync of a new file makes its name durable too, as ext4 and XFS do, is not relied on.
 */
import path from 'node:path';
export class Names {
    /** As everybody sees it while the power is on. */
    live = new Map();
    certain = new Map();
    changes = [];
    get uncertain() {
        return this.changes.map(({ operation }) => operation);
    }
    /** A name that was there before anything was done. */
    exists({ path: name, file }) {
        const number = file === 0 ? null : file;
        this.live.set(name, number);
        this.certain.set(name, number);
    }
    /** Errors: a rename from one directory to another, which nobody here makes. */
    apply(operation) {
        const { kind, path: name, target } = operation;
        if (target !== '' && path.dirname(name) !== path.dirname(target)) {
            throw new Error(`${kind} from ${name} to ${target}: not modelled`);
        }
        const isMade = kind === 'create' || kind === 'mkdir';
        const file = isMade ? (kind === 'create' ? operation.file : null) : (this.live.get(name) ?? null);
        const change = { operation, file };
        carryOut(this.live, change);
        this.changes.push(change);
    }
    /** An fsync of a directory that has ended. */
    sync({ begin, error, path: directory }) {
        if (error !== 0)
            return;
        this.changes = this.changes.filter((change) => {
            const { end, path: name } = change.operation;
            if (path.dirname(name) !== directory || end >= begin)
                return true;
            carryOut(this.certain, change);
            return false;
        });
    }
    /** What is there with these changes. A name in a directory that is not there is not there either. */
    choose(has) {
        const tree = new Map(this.certain);
        for (const change of this.changes)
            if (has(change.operation))
                carryOut(tree, change);
        for (const name of tree.keys()) {
            for (let above = path.dirname(name); above !== '/'; above = path.dirname(above)) {
                if (tree.get(above) !== null || !tree.has(above)) {
                    tree.delete(name);
                    break;
                }
            }
        }
        return tree;
    }
}
function carryOut(tree, { operation, file }) {
    const { kind, path: name, target } = operation;
    switch (kind) {
        case 'create':
        case 'mkdir':
            tree.set(name, file);
            return;
        case 'unlink':
        case 'rmdir':
            tree.delete(name);
            return;
        case 'rename':
            tree.delete(name);
            tree.set(target, file);
            return;
        case 'link':
            tree.set(target, file);
            return;
        default:
            throw new Error(`${kind} changes no name`);
    }
}
//# sourceMappingURL=names.js.map