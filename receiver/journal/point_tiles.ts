/** Segments of the catalog as a point is opened from them. */
import type { PointTile } from '../../native/index.js';
import type { Catalog } from '../catalog/catalog.js';
import type { MemberRow } from '../catalog/members.js';
import type { SegmentRow } from '../catalog/segments.js';
import { runFile, type Store } from '../store.js';
import { segmentInfo } from './segment_row.js';

export function pointTiles(
  { catalog, store }: { catalog: Catalog; store: Store },
  { group, uuid }: MemberRow,
  rows: readonly SegmentRow[],
): PointTile[] {
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
