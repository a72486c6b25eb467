/** Which groups a host may write to. Both are names: a host may be given a group that does not exist yet. */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

export class GrantTable {
  private readonly insert: Statement<[string, string]>;
  private readonly remove: Statement<[string, string]>;
  private readonly selectGroups: Statement<[string], { name: string }>;
  private readonly selectHosts: Statement<[string], { name: string }>;

  constructor(database: CatalogDatabase) {
    this.insert = database.prepare('INSERT OR IGNORE INTO granted_groups (host, group_name) VALUES (?, ?)');
    this.remove = database.prepare('DELETE FROM granted_groups WHERE host = ? AND group_name = ?');
    this.selectGroups = database.prepare(
      'SELECT group_name AS name FROM granted_groups WHERE host = ? ORDER BY group_name',
    );
    this.selectHosts = database.prepare(
      'SELECT host AS name FROM granted_groups WHERE group_name = ? ORDER BY host',
    );
  }

  add(host: string, group: string): void {
    this.insert.run(host, group);
  }
  /** False: the host did not have it. */
  delete(host: string, group: string): boolean {
    return this.remove.run(host, group).changes > 0;
  }
  groupsOf(host: string): string[] {
    return this.selectGroups.all(host).map(({ name }) => name);
  }
  hostsOf(group: string): string[] {
    return this.selectHosts.all(group).map(({ name }) => name);
  }
}
