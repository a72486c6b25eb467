/** What was read cannot be what docs/FORMAT.md describes. Never thrown for the tail of a member's last segment. */
export class Contradiction extends Error {
    name = 'Contradiction';
}
/** Throws a Contradiction unless the page's claim holds. */
export function claim(holds, contradiction) {
    if (!holds)
        throw new Contradiction(contradiction);
}
//# sourceMappingURL=contradiction.js.map