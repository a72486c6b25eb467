export class BaseAccess {
    holds = new Map();
    opening = new Map();
    rolls = new Map();
    /** Members whose journal is being opened, by how many. */
    barred = new Map();
    /** Keeps the point `lsn` of a member, and all behind it, until the release is called. */
    hold(member, lsn, who) {
        const hold = { lsn, who };
        return entered(this.holds, member, hold);
    }
    /** The hold that reaches back furthest, or null. */
    oldest(member) {
        let oldest = null;
        for (const hold of this.holds.get(member) ?? []) {
            if (oldest === null || hold.lsn < oldest.lsn)
                oldest = hold;
        }
        return oldest;
    }
    /** Runs `open`, which finds files of these members by the catalog: they stay until it has ended. */
    async whileOpening(members, open) {
        const opened = open();
        const settled = opened.catch(() => undefined);
        const releases = members.map((member) => entered(this.opening, member, settled));
        try {
            return await opened;
        }
        finally {
            for (const release of releases)
                release();
        }
    }
    /** Resolves when all that was being opened is. What is opened later knows the catalog as it is now. */
    async opened(member) {
        await Promise.all([...(this.opening.get(member) ?? [])]);
    }
    /** The bases of the member begin to be moved, by nobody else; null while its journal is being opened. */
    beginRoll(member) {
        if (this.barred.has(member))
            return null;
        if (this.rolls.has(member))
            throw new Error(`the bases of ${member} are being moved already`);
        let end = () => undefined;
        const ended = new Promise((resolve) => (end = resolve));
        const roll = {
            isStopped: false,
            end: () => {
                this.rolls.delete(member);
                end();
            },
        };
        this.rolls.set(member, { stop: () => (roll.isStopped = true), ended });
        return roll;
    }
    /** Runs `work`, which sets catalog and directory of the member right by each other, while nothing moves its bases. */
    async withoutRoll(member, work) {
        this.barred.set(member, (this.barred.get(member) ?? 0) + 1);
        try {
            await this.stopRoll(member);
            return await work();
        }
        finally {
            const left = (this.barred.get(member) ?? 1) - 1;
            if (left > 0)
                this.barred.set(member, left);
            else
                this.barred.delete(member);
        }
    }
    /**
     * Ends what moves the bases of the member; it begins anew later, by the catalog as it is then. Wanted before a
     * generation begins: if damage was found, what its volumes are compared with must not change any more.
     */
    async stopRoll(member) {
        const roll = this.rolls.get(member);
        roll?.stop();
        await roll?.ended;
    }
}
/** Puts `item` into the member's set, until the release is called. */
function entered(sets, member, item) {
    const set = sets.get(member) ?? new Set();
    sets.set(member, set);
    set.add(item);
    return () => {
        set.delete(item);
        if (set.size === 0 && sets.get(member) === set)
            sets.delete(member);
    };
}
//# sourceMappingURL=base_access.js.map