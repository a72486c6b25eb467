/** Tokens that were given out, each good for one join. Their secrets are not here. */
import type { Statement } from 'better-sqlite3';
import type { IdentityKind, Role } from '../../proto/access.js';
import type { CatalogDatabase } from './database.js';

export interface TokenRow {
  /** For people: what it is called in lists. */
  id: string;
  /** SHA-256. */
  secretHash: Buffer;
  kind: IdentityKind;
  name: string;
  role: Role;
  /** Given to the host when it joins; null: it may begin groups that nobody has. */
  groups: string[] | null;
  createdNs: bigint;
  expiresNs: bigint;
  usedNs: bigint | null;
}

type StoredToken = Omit<TokenRow, 'groups'> & { groups: string | null };

const TOKEN = `id, secret_hash AS secretHash, kind, name, role, groups, created_ns AS createdNs,
  expires_ns AS expiresNs, used_ns AS usedNs`;

export class TokenTable {
  private readonly insert: Statement<[StoredToken]>;
  private readonly selectHash: Statement<[Buffer], StoredToken>;
  private readonly selectAll: Statement<[], StoredToken>;
  private readonly updateUsed: Statement<[bigint, string]>;
  private readonly deleteOne: Statement<[string]>;
  private readonly deleteExpired: Statement<[bigint]>;

  constructor(database: CatalogDatabase) {
    this.insert = database.prepare(`
      INSERT INTO tokens (id, secret_hash, kind, name, role, groups, created_ns, expires_ns, used_ns)
      VALUES (@id, @secretHash, @kind, @name, @role, @groups, @createdNs, @expiresNs, @usedNs)`);
    this.selectHash = database.prepare(`SELECT ${TOKEN} FROM tokens WHERE secret_hash = ?`);
    this.selectAll = database.prepare(`SELECT ${TOKEN} FROM tokens ORDER BY created_ns, id`);
    this.updateUsed = database.prepare('UPDATE tokens SET used_ns = ? WHERE id = ?');
    this.deleteOne = database.prepare('DELETE FROM tokens WHERE id = ?');
    this.deleteExpired = database.prepare('DELETE FROM tokens WHERE expires_ns < ?');
  }

  add({ groups, ...row }: TokenRow): void {
    this.insert.run({ ...row, groups: groups === null ? null : JSON.stringify(groups) });
  }
  withHash(secretHash: Buffer): TokenRow | null {
    const row = this.selectHash.get(secretHash);
    return row === undefined ? null : fromStored(row);
  }
  /** The oldest first. */
  all(): TokenRow[] {
    return this.selectAll.all().map(fromStored);
  }
  setUsed(id: string, nowNs: bigint): void {
    this.updateUsed.run(nowNs, id);
  }
  /** False: there is none. */
  delete(id: string): boolean {
    return this.deleteOne.run(id).changes > 0;
  }
  forgetExpired(beforeNs: bigint): void {
    this.deleteExpired.run(beforeNs);
  }
}

function fromStored({ groups, ...row }: StoredToken): TokenRow {
  return { ...row, groups: groups === null ? null : (JSON.parse(groups) as string[]) };
}
