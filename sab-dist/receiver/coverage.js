/**
 * Up to when the generation that begins with `firstLsn` is covered behind its last record; 0n: no further than that.
 * `eras`: of the member, up to the end of that generation.
 */
export function coveredTime(coverage, firstLsn, eras) {
    // A generation without a record stands just before its first LSN.
    if (coverage.lsn < firstLsn - 1n)
        return 0n;
    const era = eras.at(-1);
    return era !== undefined && era.firstLsn > coverage.lsn ? 0n : coverage.timeNs;
}
//# sourceMappingURL=coverage.js.map