import { runFile } from '../store.js';
import { segmentInfo } from './segment_row.js';
export function pointTiles({ catalog, store }, { group, uuid }, rows) {
    const damage = catalog.damage.damage(uuid);
    return rows.map((row) => {
        const file = store.segmentFile(group, uuid, row.firstLsn);
        const before = row.firstLsn - 1n;
        return {
            segment: segmentInfo(row, file),
            run: row.hasRun ? runFile(file) : null,
            isAfterHole: damage.some(({ firstLsn, lastLsn }) => firstLsn <= before && before <= lastLsn),
        };
    });
}
//# sourceMappingURL=point_tiles.js.map