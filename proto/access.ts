/** Who may connect to a receiver: messages and gRPC services. Grammar: access.proto. */
import type { ServiceDefinition } from '@grpc/grpc-js';
import { method } from './method.js';

/** Longest message of somebody who has shown no certificate yet. */
export const ENROLLMENT_MESSAGE_BYTES_MAX = 16 * 1024;

export type IdentityKind = 'host' | 'operator';
/** 'agent' is that of every host; the others are those of operators, each of which may do what the one before may. */
export type Role = 'agent' | OperatorRole;
export type OperatorRole = (typeof OPERATOR_ROLES)[number];
/** The least first. */
export const OPERATOR_ROLES = ['viewer', 'operator', 'admin'] as const;

export interface JoinRequest {
  secret: Buffer;
  /** PKCS #10, DER. */
  request: Buffer;
  kind: string;
  name: string;
  software: string;
}
export interface Joined {
  kind: string;
  name: string;
  role: string;
  /** PEM. */
  certificate: string;
  store: string;
}
export interface RenewRequest {
  request: Buffer;
}
export interface Renewed {
  certificate: string;
}
export interface TokenCreateRequest {
  kind: string;
  name: string;
  role: string;
  groups: string[];
  foundsGroups: boolean;
  ttlNs: bigint;
}
export interface TokenInfo {
  id: string;
  kind: string;
  name: string;
  role: string;
  groups: string[];
  foundsGroups: boolean;
  createdNs: bigint;
  expiresNs: bigint;
  /** 0n: not yet. */
  usedNs: bigint;
}
export interface TokenCreated {
  token: string;
  info: TokenInfo | null;
}
export interface TokenList {
  tokens: TokenInfo[];
}
export interface TokenDeleteRequest {
  id: string;
}
export interface IdentityInfo {
  kind: string;
  name: string;
  role: string;
  groups: string[];
  foundsGroups: boolean;
  joinedNs: bigint;
  expiresNs: bigint;
  /** 0n: it is not. */
  revokedNs: bigint;
  connections: number;
}
export interface IdentityListRequest {
  kind: string;
}
export interface IdentityList {
  identities: IdentityInfo[];
}
export interface IdentityRevokeRequest {
  kind: string;
  name: string;
}
export interface HostGrantRequest {
  host: string;
  group: string;
  granted: boolean;
}
export interface AuthorityInfo {
  fingerprint: string;
  certificate: string;
}
type Empty = Record<string, never>;

/** Of whoever has a token. */
export const enrollmentService = {
  join: method<JoinRequest, Joined>('Enrollment', 'Join', 'JoinRequest', 'Joined'),
} satisfies ServiceDefinition;

/** Of hosts and operators. */
export const identityService = {
  renew: method<RenewRequest, Renewed>('Identity', 'Renew', 'RenewRequest', 'Renewed'),
} satisfies ServiceDefinition;

const A = 'Access';
/** Of administrators. */
export const accessService = {
  tokenCreate: method<TokenCreateRequest, TokenCreated>(
    A,
    'TokenCreate',
    'TokenCreateRequest',
    'TokenCreated',
  ),
  tokenList: method<Empty, TokenList>(A, 'TokenList', 'TokenListRequest', 'TokenList'),
  tokenDelete: method<TokenDeleteRequest, Empty>(A, 'TokenDelete', 'TokenDeleteRequest', 'TokenDeleted'),
  identityList: method<IdentityListRequest, IdentityList>(
    A,
    'IdentityList',
    'IdentityListRequest',
    'IdentityList',
  ),
  identityRevoke: method<IdentityRevokeRequest, IdentityInfo>(
    A,
    'IdentityRevoke',
    'IdentityRevokeRequest',
    'IdentityInfo',
  ),
  hostGrant: method<HostGrantRequest, IdentityInfo>(A, 'HostGrant', 'HostGrantRequest', 'IdentityInfo'),
  authority: method<Empty, AuthorityInfo>(A, 'Authority', 'AuthorityRequest', 'AuthorityInfo'),
} satisfies ServiceDefinition;
