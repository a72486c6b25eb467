/**
 * Who may connect, and what a host may write to: tokens are made and used up here, certificates signed, hosts given groups, and
 * all of it taken back. What is decided is on stable storage before anybody is told of it.
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import type { IdentityKind, Role } from '../proto/access.js';
import { AfterimageError } from '../proto/errors.js';
import type { Hello } from '../proto/replication.js';
import { formatTime } from '../proto/time.js';
import { isName } from '../service/settings.js';
import { formatToken, newToken } from '../service/token.js';
import type { Authority } from './authority.js';
import type { Catalog } from './catalog/catalog.js';
import type { IdentityRow } from './catalog/identities.js';
import type { TokenRow } from './catalog/tokens.js';
import { checkOwnership } from './ownership.js';

/** Tokens that are neither used nor too old; more are refused. */
const TOKENS_MAX = 10_000;
const TOKEN_ID_BYTES = 4;
/** For how long `token list` shows what has become of one. */
const TOKEN_KEPT_NS = 7n * 86_400_000_000_000n;
const NS_PER_MS = 1_000_000n;

export interface IdentityParts {
  catalog: Catalog;
  authority: Authority;
  nowNs: () => bigint;
  /** Of the certificates of hosts and operators. */
  lifetimeMs: number;
}
export interface TokenRequest {
  kind: IdentityKind;
  name: string;
  role: Role;
  /** Given to a host; null: it may begin groups that nobody has. */
  groups: string[] | null;
  ttlNs: bigint;
}
export interface JoinAttempt {
  secret: Uint8Array;
  /** PKCS #10, DER. */
  request: Uint8Array;
  kind: IdentityKind;
  /** As whoever joins calls itself; "": as the token does. */
  name: string;
}

export class Identities {
  constructor(private readonly parts: IdentityParts) {}

  get authority(): Authority {
    return this.parts.authority;
  }

  /** The token's text is told this once. Errors: USAGE, TOKEN_LIMIT. */
  createToken(request: TokenRequest): { text: string; row: TokenRow } {
    const { catalog, authority, nowNs } = this.parts;
    const { kind, name, role, groups, ttlNs } = request;
    const bad = [name, ...(groups ?? [])].find((text) => !isName(text));
    if (bad !== undefined) throw new AfterimageError('USAGE', `${JSON.stringify(bad)} is no name`);
    if ((kind === 'host') !== (role === 'agent'))
      throw new AfterimageError('USAGE', `a ${kind} cannot have the role ${role}`);
    const now = nowNs();
    const token = newToken(authority.fingerprint);
    const row: TokenRow = {
      id: randomBytes(TOKEN_ID_BYTES).toString('hex'),
      secretHash: hashOf(token.secret),
      ...{ kind, name, role, groups },
      createdNs: now,
      expiresNs: now + ttlNs,
      usedNs: null,
    };
    catalog.atomically(() => {
      catalog.tokens.forgetExpired(now - TOKEN_KEPT_NS);
      const open = catalog.tokens.all().filter(({ usedNs, expiresNs }) => usedNs === null && expiresNs > now);
      if (open.length >= TOKENS_MAX)
        throw new AfterimageError('TOKEN_LIMIT', `${open.length} tokens wait to be used`);
      catalog.tokens.add(row);
    });
    return { text: formatToken(token), row };
  }

  /**
   * Uses a token up: whoever has it is that host or operator from then on, and whoever was it before is not any more.
   * Errors: TOKEN_REFUSED, MESSAGE_INVALID.
   */
  async join(
    attempt: JoinAttempt,
  ): Promise<{ identity: IdentityRow; certificate: string; replaced: string | null }> {
    const { catalog, authority, nowNs, lifetimeMs } = this.parts;
    const { kind, name, role, groups } = this.usable(attempt);
    const identity: IdentityRow = {
      ...{ kind, name, role },
      uuid: randomUUID(),
      foundsGroups: kind === 'host' && groups === null,
      joinedNs: nowNs(),
      expiresNs: nowNs() + BigInt(lifetimeMs) * NS_PER_MS,
      revokedNs: null,
    };
    const certificate = await authority.sign(
      attempt.request,
      { kind, name, uuid: identity.uuid },
      lifetimeMs,
    );
    const replaced = catalog.atomically(() => {
      // Another one may have been faster meanwhile.
      const { id } = this.usable(attempt);
      const before = catalog.identities.named(kind, name);
      catalog.tokens.setUsed(id, nowNs());
      catalog.identities.put(identity);
      for (const group of groups ?? []) catalog.grants.add(name, group);
      return before?.uuid ?? null;
    });
    return { identity, certificate, replaced };
  }

  /** A certificate for another key of the same identity, PEM. Errors: IDENTITY_REFUSED, MESSAGE_INVALID. */
  async renew(uuid: string, request: Uint8Array): Promise<string> {
    const { catalog, authority, nowNs, lifetimeMs } = this.parts;
    const { kind, name } = this.known(uuid);
    const certificate = await authority.sign(request, { kind, name, uuid }, lifetimeMs);
    this.known(uuid);
    catalog.identities.setExpiry(uuid, nowNs() + BigInt(lifetimeMs) * NS_PER_MS);
    return certificate;
  }

  /** Whose certificate says `uuid`. Errors: IDENTITY_REFUSED. */
  known(uuid: string): IdentityRow {
    const row = this.parts.catalog.identities.withUuid(uuid);
    if (row === null) {
      throw new AfterimageError(
        'IDENTITY_REFUSED',
        'the certificate is of nobody that this receiver knows: another one has joined under its name since, or the store is an older copy',
      );
    }
    if (row.revokedNs !== null) {
      const when = formatTime(row.revokedNs);
      throw new AfterimageError('IDENTITY_REFUSED', `${row.kind} ${row.name} was revoked at ${when}`);
    }
    return row;
  }

  /** Errors: IDENTITY_UNKNOWN. */
  named(kind: IdentityKind, name: string): IdentityRow {
    const row = this.parts.catalog.identities.named(kind, name);
    if (row === null) throw new AfterimageError('IDENTITY_UNKNOWN', `no ${kind} ${name} has joined`);
    return row;
  }

  /** It is let in no more; what it wrote stays. Tokens that were made for it are void. Errors: IDENTITY_UNKNOWN. */
  revoke(kind: IdentityKind, name: string): IdentityRow {
    const { catalog, nowNs } = this.parts;
    return catalog.atomically(() => {
      const row = this.named(kind, name);
      for (const token of catalog.tokens.all())
        if (token.kind === kind && token.name === name && token.usedNs === null)
          catalog.tokens.delete(token.id);
      if (row.revokedNs === null) catalog.identities.revoke(row.uuid, nowNs());
      return this.named(kind, name);
    });
  }

  /** Gives a group to a host, or takes it away: what the host has written of it stays. Errors: IDENTITY_UNKNOWN, USAGE. */
  grant(host: string, group: string, isGranted: boolean): IdentityRow {
    const { catalog } = this.parts;
    if (!isName(group)) throw new AfterimageError('USAGE', `${JSON.stringify(group)} is no name`);
    const row = this.named('host', host);
    if (isGranted) catalog.grants.add(host, group);
    else catalog.grants.delete(host, group);
    return row;
  }

  /**
   * The name of the host whose certificate says `uuid`, null: one without identity, by plain TCP on loopback; if it may write what it says
   * hello for. Errors: GROUP_FORBIDDEN, IDENTITY_REFUSED.
   */
  checkWriter(uuid: string | null, hello: Hello): string | null {
    const host = uuid === null ? null : this.known(uuid);
    checkOwnership(this.parts.catalog, host, hello);
    return host?.name ?? null;
  }

  private usable({ secret, kind, name }: JoinAttempt): TokenRow {
    const { catalog, nowNs } = this.parts;
    const refused = (why: string): AfterimageError => new AfterimageError('TOKEN_REFUSED', why);
    const token = catalog.tokens.withHash(hashOf(secret));
    if (token === null) throw refused('there is no such token here');
    if (token.usedNs !== null) throw refused(`the token was used at ${formatTime(token.usedNs)}`);
    if (token.expiresNs <= nowNs()) throw refused(`the token has expired at ${formatTime(token.expiresNs)}`);
    if (token.kind !== kind)
      throw refused(`the token is for ${article(token.kind)}, not for ${article(kind)}`);
    if (name !== '' && name !== token.name)
      throw refused(`the token is for ${token.kind} ${token.name}, not for ${name}`);
    return token;
  }
}

function article(kind: IdentityKind): string {
  return kind === 'host' ? 'a host' : 'an operator';
}
function hashOf(secret: Uint8Array): Buffer {
  return createHash('sha256').update(secret).digest();
}
