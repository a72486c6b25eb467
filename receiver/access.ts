/** What administrators ask of the receiver: who may connect. One handler a call of proto/access.ts. */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import {
  OPERATOR_ROLES,
  type AuthorityInfo,
  type HostGrantRequest,
  type IdentityInfo,
  type IdentityKind,
  type IdentityList,
  type IdentityListRequest,
  type IdentityRevokeRequest,
  type Role,
  type TokenCreated,
  type TokenCreateRequest,
  type TokenDeleteRequest,
  type TokenInfo,
  type TokenList,
} from '../proto/access.js';
import { AfterimageError } from '../proto/errors.js';
import { formatFingerprint } from '../service/token.js';
import type { Catalog } from './catalog/catalog.js';
import type { IdentityRow } from './catalog/identities.js';
import type { TokenRow } from './catalog/tokens.js';
import type { FrontDoor } from './front_door.js';
import type { Guard } from './guard.js';
import type { Identities } from './identities.js';

/** Of a token. */
const TTL_NS_MIN = 1_000_000_000n;
const TTL_NS_MAX = 7n * 86_400_000_000_000n;

export interface AccessParts {
  catalog: Catalog;
  identities: Identities;
  door: Pick<FrontDoor, 'cutOff' | 'connectionCount'>;
}
type Empty = Record<string, never>;

/** The handlers of accessService; `guard` lets callers in. */
export function accessHandlers(parts: AccessParts, guard: Guard): UntypedServiceImplementation {
  const { catalog, identities, door } = parts;
  const info = (row: IdentityRow): IdentityInfo => identityInfo(parts, row);
  return {
    tokenCreate: guard.unary<TokenCreateRequest, TokenCreated>('tokenCreate', (request) => {
      const { ttlNs, groups, foundsGroups } = request;
      const kind = kindOf(request.kind);
      if (ttlNs < TTL_NS_MIN || ttlNs > TTL_NS_MAX)
        throw new AfterimageError('USAGE', 'a token is good for a second to seven days');
      if (foundsGroups && groups.length > 0)
        throw new AfterimageError(
          'USAGE',
          'a host has either the groups that it is given, or those that it begins',
        );
      const role = kind === 'host' ? 'agent' : roleOf(request.role);
      const given = kind === 'host' && foundsGroups ? null : groups;
      const { text, row } = identities.createToken({ kind, name: request.name, role, groups: given, ttlNs });
      return Promise.resolve({ token: text, info: tokenInfo(row) });
    }),
    tokenList: guard.unary<Empty, TokenList>('tokenList', () =>
      Promise.resolve({ tokens: catalog.tokens.all().map(tokenInfo) }),
    ),
    tokenDelete: guard.unary<TokenDeleteRequest, Empty>('tokenDelete', ({ id }) => {
      if (!catalog.tokens.delete(id)) throw new AfterimageError('TOKEN_UNKNOWN', `there is no token ${id}`);
      return Promise.resolve({});
    }),
    identityList: guard.unary<IdentityListRequest, IdentityList>('identityList', ({ kind }) =>
      Promise.resolve({ identities: catalog.identities.all(kindOf(kind)).map(info) }),
    ),
    identityRevoke: guard.unary<IdentityRevokeRequest, IdentityInfo>('identityRevoke', ({ kind, name }) => {
      const row = identities.revoke(kindOf(kind), name);
      door.cutOff(row.uuid);
      return Promise.resolve(info(row));
    }),
    hostGrant: guard.unary<HostGrantRequest, IdentityInfo>('hostGrant', ({ host, group, granted }) => {
      const row = identities.grant(host, group, granted);
      // Its sessions are looked at anew: one of that group does not come back.
      if (!granted) door.cutOff(row.uuid);
      return Promise.resolve(info(row));
    }),
    authority: guard.unary<Empty, AuthorityInfo>('authority', () => {
      const { fingerprint, certificate } = identities.authority;
      return Promise.resolve({ fingerprint: formatFingerprint(fingerprint), certificate });
    }),
  };
}

function identityInfo({ catalog, door }: AccessParts, row: IdentityRow): IdentityInfo {
  const { kind, name, role, uuid, foundsGroups, joinedNs, expiresNs, revokedNs } = row;
  return {
    ...{ kind, name, role, foundsGroups, joinedNs, expiresNs },
    groups: kind === 'host' ? catalog.grants.groupsOf(name) : [],
    revokedNs: revokedNs ?? 0n,
    connections: door.connectionCount(uuid),
  };
}

function tokenInfo({ id, kind, name, role, groups, createdNs, expiresNs, usedNs }: TokenRow): TokenInfo {
  return {
    ...{ id, kind, name, role, createdNs, expiresNs },
    groups: groups ?? [],
    foundsGroups: kind === 'host' && groups === null,
    usedNs: usedNs ?? 0n,
  };
}

function kindOf(text: string): IdentityKind {
  if (text === 'host' || text === 'operator') return text;
  throw new AfterimageError('USAGE', `${JSON.stringify(text)} is neither host nor operator`);
}
function roleOf(text: string): Role {
  const role = OPERATOR_ROLES.find((one) => one === text);
  if (role === undefined)
    throw new AfterimageError('USAGE', `${JSON.stringify(text)} is none of ${OPERATOR_ROLES.join(', ')}`);
  return role;
}
