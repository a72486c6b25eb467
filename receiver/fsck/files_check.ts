/** Files and directories of a store that nothing in it refers to. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { named } from '../../service/system_errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { GroupRow, MemberRow } from '../catalog/members.js';
import { fileFirstLsn, type Store } from '../store.js';
import { finding, NOWHERE, type Finding, type FindingCode, type FindingPlace } from './finding.js';

const OF_STORE = new Set([
  'store.json',
  'lock',
  'groups',
  'scratch',
  'catalog.sqlite',
  'catalog.sqlite-wal',
  'catalog.sqlite-shm',
  'reserve',
  'authority.pem',
  'authority.pem.old',
  'audit.log',
  'audit.log.head',
]);
const UNFINISHED = /\.tmp$/;
const SEGMENT = /^\d{20}\.seg$/;
const RUN = /^\d{20}\.run$/;
const ASIDE = /^\d{20}\.(seg|run)\.unreadable$/;

/** `catalog`: null where there is none, and its groups are not known. Errors: IO_ERROR, PERMISSION_DENIED. */
export async function checkFiles(store: Store, catalog: Catalog | null): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const name of await list(store.directory)) {
    if (OF_STORE.has(name)) continue;
    findings.push(stray(NOWHERE, path.join(store.directory, name)));
  }
  if (catalog === null) return findings;
  const groups = path.join(store.directory, 'groups');
  const known = new Map(catalog.members.groups().map((group) => [group.uuid, group]));
  for (const uuid of await list(groups)) {
    const group = known.get(uuid);
    const directory = path.join(groups, uuid);
    findings.push(
      ...(group === undefined ? [unknown(directory, 'group')] : await checkGroup(catalog, group, directory)),
    );
  }
  return findings;
}

async function checkGroup(catalog: Catalog, group: GroupRow, directory: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  const known = new Map(catalog.members.members(group.uuid).map((member) => [member.uuid, member]));
  for (const uuid of await list(directory)) {
    const member = known.get(uuid);
    const below = path.join(directory, uuid);
    if (member === undefined) findings.push(unknown(below, 'member'));
    else
      findings.push(...(await checkMember(catalog, member, { group: group.name, host: member.host }, below)));
  }
  return findings;
}

async function checkMember(
  catalog: Catalog,
  member: MemberRow,
  place: FindingPlace,
  directory: string,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const journal = path.join(directory, 'journal');
  const names = new Set(await list(journal));
  const { droppedLsn } = catalog.windows.held(member.uuid);
  for (const name of names) {
    const file = path.join(journal, name);
    const firstLsn = fileFirstLsn(name);
    if (firstLsn !== null && firstLsn <= droppedLsn) {
      findings.push(finding('LEFTOVER', place, file, 'retention has let it go: the bases have what it held'));
      continue;
    }
    if (SEGMENT.test(name)) continue;
    if (ASIDE.test(name)) findings.push(finding('SEGMENT_ASIDE', place, file, 'it was put aside'));
    else if (!RUN.test(name)) findings.push(stray(place, file));
    else if (!names.has(name.replace('.run', '.seg'))) {
      findings.push(finding('RUN_ORPHAN', place, file, 'its segment is not there'));
    }
  }
  const bases = path.join(directory, 'base');
  const images = new Set(
    catalog.volumes.volumes(member.uuid).flatMap(({ uuid }) => [`${uuid}.img`, `${uuid}.sum`]),
  );
  for (const name of await list(bases)) {
    if (!images.has(name)) findings.push(stray(place, path.join(bases, name)));
  }
  return findings;
}

/** What a crash may have left has its own suffix; all else is somebody's. */
function stray(place: FindingPlace, file: string): Finding {
  const code: FindingCode = UNFINISHED.test(file) ? 'LEFTOVER' : 'FILE_UNKNOWN';
  return finding(code, place, file, code === 'LEFTOVER' ? 'it was never finished' : 'no part of the store');
}

function unknown(directory: string, what: string): Finding {
  return finding('MEMBER_UNKNOWN', NOWHERE, directory, `the catalog knows no such ${what}`);
}

/** Names in order; none where there is no such directory. */
async function list(directory: string): Promise<string[]> {
  try {
    return (await named(readdir(directory), directory)).sort();
  } catch (thrown) {
    const { code } = ((thrown as Error).cause ?? {}) as NodeJS.ErrnoException;
    if (code === 'ENOENT') return [];
    throw thrown;
  }
}
