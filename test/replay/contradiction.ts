/** What was read cannot be what docs/FORMAT.md describes. Never thrown for the tail of a member's last segment. */
export class Contradiction extends Error {
  override name = 'Contradiction';
}

/** Throws a Contradiction unless the page's claim holds. */
export function claim(holds: boolean, contradiction: string): asserts holds {
  if (!holds) throw new Contradiction(contradiction);
}
