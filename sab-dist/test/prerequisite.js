/**
 * What a test needs of the machine. Where it is missing the test is left out, and the runner counts it as skipped; where
 * AFTERIMAGE_TEST_REQUIRE_ALL is set, as the runner does for root, it fails: nobody shall think that it passed.
 */
export function skipUnless(isThere, needs) {
    if (isThere)
        return false;
    if (process.env['AFTERIMAGE_TEST_REQUIRE_ALL'] !== undefined)
        throw new Error(`not run: needs ${needs}`);
    return `needs ${needs}`;
}
export const isRoot = process.getuid?.() === 0;
//# sourceMappingURL=prerequisite.js.map