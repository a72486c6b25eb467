export function segmentInfo(row, file) {
    return {
        path: file,
        generation: row.generation,
        firstLsn: row.firstLsn,
        lastLsn: row.lastLsn,
        firstTimeNs: row.firstTimeNs,
        lastTimeNs: row.lastTimeNs,
        firstEra: row.firstEra,
        lastEra: row.lastEra,
        frames: row.frames,
        records: row.records,
        rawBytes: row.rawBytes,
        bytes: row.bytes,
        link: row.link,
        sealed: row.sealed,
    };
}
export function segmentRow(info, member, hasRun) {
    return {
        member,
        generation: info.generation,
        firstLsn: info.firstLsn,
        lastLsn: info.lastLsn,
        firstTimeNs: info.firstTimeNs,
        lastTimeNs: info.lastTimeNs,
        firstEra: info.firstEra,
        lastEra: info.lastEra,
        frames: info.frames,
        records: info.records,
        rawBytes: info.rawBytes,
        bytes: info.bytes,
        link: info.link,
        sealed: info.sealed,
        hasRun,
    };
}
//# sourceMappingURL=segment_row.js.map