import React, { useEffect, useState } from "react";
import { fetchJSON } from "../api";
import { ProductCard } from "../components/ProductCard";
import type { Product } from "../types";

export function CatalogPage() {
  const [products, setProducts] = useState<Product[]>([]);
  const [added, setAdded] = useState(0);

  useEffect(() => {
    fetchJSON<Product[]>("/products").then((found) => {
      console.log("products", found.length);
      setProducts(found);
    });
  }, []);

  var cheapest = Math.min(...products.map((product) => product.cents));
  return (
    <main>
      <h1>Everything we sell</h1>
      {added > 0 && <p role="status">{added} in your cart</p>}
      {products.map((product) => (
        <div key={product.sku} className={product.cents === cheapest ? "best" : undefined}>
          <ProductCard product={product} onAdded={setAdded} />
        </div>
      ))}
    </main>
  );
}
