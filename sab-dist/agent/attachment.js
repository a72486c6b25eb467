export {};
//# sourceMappingURL=attachment.js.map