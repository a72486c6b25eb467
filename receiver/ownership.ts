/** Which host may write what: a group belongs to the hosts that were given it, or to the one that began it; a member to its host. */
import { AfterimageError } from '../proto/errors.js';
import type { Hello } from '../proto/replication.js';
import { formatUuid } from '../proto/uuid.js';
import type { Catalog } from './catalog/catalog.js';
import type { IdentityRow } from './catalog/identities.js';
import { GROUPS_FOUNDED_MAX, MEMBERS_OF_HOST_MAX } from './session_limits.js';

/**
 * Whether `host` may write what it says hello for; null: one without identity, by plain TCP on loopback. A look, which the transaction that
 * records the writer takes again: others may have come since. Errors: GROUP_FORBIDDEN.
 */
export function checkOwnership(
  { grants, members }: Pick<Catalog, 'grants' | 'members'>,
  host: Pick<IdentityRow, 'name' | 'foundsGroups'> | null,
  hello: Pick<Hello, 'group' | 'groupName' | 'member'>,
): void {
  const { groupName } = hello;
  const hosts = grants.hostsOf(groupName);
  const member = members.member(formatUuid(hello.member));
  const owner = member?.owner ?? null;
  if (host === null) {
    if (owner === null && hosts.length === 0) return;
    throw forbidden(`${groupName} belongs to hosts that have joined, and none did here`);
  }
  const { name, foundsGroups } = host;
  if (owner !== null && owner !== name)
    throw forbidden(`host ${name} is not the one that writes this member of ${groupName}`);
  if (!hosts.includes(name)) {
    const isFree = hosts.length === 0 && members.groupNamed(groupName) === null;
    if (!foundsGroups || !isFree) throw forbidden(`host ${name} was not given group ${groupName}`);
    if (grants.groupsOf(name).length >= GROUPS_FOUNDED_MAX)
      throw forbidden(`host ${name} has ${GROUPS_FOUNDED_MAX} groups already`);
  }
  if (member !== null) return;
  const own = members.members(formatUuid(hello.group)).filter((one) => one.owner === name);
  if (own.length >= MEMBERS_OF_HOST_MAX)
    throw forbidden(`host ${name} has ${own.length} members of ${groupName} already`);
}

function forbidden(why: string): AfterimageError {
  return new AfterimageError('GROUP_FORBIDDEN', why);
}
