/** Hosts and operators that may connect, or might once. */
import type { Statement } from 'better-sqlite3';
import type { IdentityKind, Role } from '../../proto/access.js';
import type { CatalogDatabase } from './database.js';

export interface IdentityRow {
  kind: IdentityKind;
  name: string;
  /** What its certificates say. */
  uuid: string;
  role: Role;
  /** A host that may begin groups that nobody has. */
  foundsGroups: boolean;
  joinedNs: bigint;
  /** Of its newest certificate. */
  expiresNs: bigint;
  revokedNs: bigint | null;
}

type StoredIdentity = Omit<IdentityRow, 'foundsGroups'> & { foundsGroups: bigint };

const IDENTITY = `kind, name, uuid, role, founds_groups AS foundsGroups, joined_ns AS joinedNs,
  expires_ns AS expiresNs, revoked_ns AS revokedNs`;

export class IdentityTable {
  private readonly upsert: Statement<[StoredIdentity]>;
  private readonly selectUuid: Statement<[string], StoredIdentity>;
  private readonly selectNamed: Statement<[string, string], StoredIdentity>;
  private readonly selectKind: Statement<[string], StoredIdentity>;
  private readonly updateExpiry: Statement<[bigint, string]>;
  private readonly updateRevoked: Statement<[bigint, string]>;

  constructor(database: CatalogDatabase) {
    this.upsert = database.prepare(`
      INSERT OR REPLACE INTO identities (kind, name, uuid, role, founds_groups, joined_ns, expires_ns, revoked_ns)
      VALUES (@kind, @name, @uuid, @role, @foundsGroups, @joinedNs, @expiresNs, @revokedNs)`);
    this.selectUuid = database.prepare(`SELECT ${IDENTITY} FROM identities WHERE uuid = ?`);
    this.selectNamed = database.prepare(`SELECT ${IDENTITY} FROM identities WHERE kind = ? AND name = ?`);
    this.selectKind = database.prepare(`SELECT ${IDENTITY} FROM identities WHERE kind = ? ORDER BY name`);
    this.updateExpiry = database.prepare('UPDATE identities SET expires_ns = ? WHERE uuid = ?');
    this.updateRevoked = database.prepare('UPDATE identities SET revoked_ns = ? WHERE uuid = ?');
  }

  /** In place of the one of that kind and name, if there is one. */
  put({ foundsGroups, ...row }: IdentityRow): void {
    this.upsert.run({ ...row, foundsGroups: foundsGroups ? 1n : 0n });
  }
  withUuid(uuid: string): IdentityRow | null {
    return fromStored(this.selectUuid.get(uuid));
  }
  named(kind: IdentityKind, name: string): IdentityRow | null {
    return fromStored(this.selectNamed.get(kind, name));
  }
  /** By name. */
  all(kind: IdentityKind): IdentityRow[] {
    return this.selectKind.all(kind).map((row) => ({ ...row, foundsGroups: row.foundsGroups !== 0n }));
  }
  setExpiry(uuid: string, expiresNs: bigint): void {
    this.updateExpiry.run(expiresNs, uuid);
  }
  revoke(uuid: string, nowNs: bigint): void {
    this.updateRevoked.run(nowNs, uuid);
  }
}

function fromStored(row: StoredIdentity | undefined): IdentityRow | null {
  return row === undefined ? null : { ...row, foundsGroups: row.foundsGroups !== 0n };
}
