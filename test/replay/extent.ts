/** A stretch of sectors of one volume and the record that set them last. */
export interface Extent {
  /** In sectors, as is length. */
  start: number;
  length: number;
  /** Ordinal in the run's segment table. */
  segment: number;
  /** Offset of the frame in the segment, in bytes; 0: the sectors are zero. */
  frame: number;
  record: number;
  /** Sectors from the start of the record's range to start; 0 for zero extents. */
  recordSector: number;
}

/**
 * Joins neighbours that say the same of adjacent sectors. The page does not say how finely a writer cuts extents,
 * so two lists are compared when both are as coarse as can be.
 */
export function coalesced(extents: Extent[]): Extent[] {
  const joined: Extent[] = [];
  for (const extent of extents) {
    const last = joined.at(-1);
    if (last !== undefined && continues(last, extent)) last.length += extent.length;
    else joined.push({ ...extent });
  }
  return joined;
}

function continues(before: Extent, { start, segment, frame, record, recordSector }: Extent): boolean {
  const isSameRecord = segment === before.segment && frame === before.frame && record === before.record;
  const recordSectorNext = frame === 0 ? 0 : before.recordSector + before.length;
  return isSameRecord && start === before.start + before.length && recordSector === recordSectorNext;
}

export function describeExtent({ start, length, segment, frame, record, recordSector }: Extent): string {
  const source = frame === 0 ? 'zero' : `frame ${frame} record ${record} sector ${recordSector}`;
  return `sectors ${start}+${length}: segment ${segment} ${source}`;
}
