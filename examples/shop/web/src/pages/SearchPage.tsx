import React, { useState } from "react";
import { fetchJSON } from "../api";
import { SearchBox } from "../components/SearchBox";

export function SearchPage() {
  const [found, setFound] = useState<string[] | null>(null);

  async function search(words: string) {
    var began = Date.now();
    var skus = await fetchJSON<string[]>(`/search/${words}`);
    console.log("search", words, skus.length, Date.now() - began);
    setFound(skus);
  }

  return (
    <main>
      <SearchBox onSearch={search} />
      {found !== null && found.length === 0 && <p>Nothing found.</p>}
      <ul>
        {(found || []).map((sku) => (
          <li key={sku}>
            <a href={`/products/${sku}`}>{sku}</a>
          </li>
        ))}
      </ul>
    </main>
  );
}
