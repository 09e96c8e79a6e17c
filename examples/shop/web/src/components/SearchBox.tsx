import React, { useState } from "react";

interface Props {
  onSearch: (words: string) => void;
}

// Words are joined by "+", which is how the services want them.
export function SearchBox({ onSearch }: Props) {
  const [typed, setTyped] = useState("");

  function submit(event: React.FormEvent) {
    event.preventDefault();
    var words = typed.trim().split(/\s+/).filter(Boolean);
    if (words.length > 0) {
      onSearch(words.map(encodeURIComponent).join("+"));
    }
  }

  return (
    <form role="search" onSubmit={submit}>
      <input aria-label="Search" value={typed} onChange={(event) => setTyped(event.target.value)} />
      <button type="submit">Search</button>
    </form>
  );
}
