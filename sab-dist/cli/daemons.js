export {};
//# sourceMappingURL=daemons.js.map